"""While Redis is away: users whom Postgres knows keep their variant."""

import asyncio
from collections.abc import Callable, Sequence

import asyncpg
import structlog

from server.coalescer import Coalescer
from storage.postgres import assignments
from storage.records import Found, Lookup

log = structlog.get_logger()
_TIMEOUT_SECONDS = 0.5


class Postgres:
    """Looks users up, coalesced. Nothing is written: there is one writer of assignments, and that is Redis."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        """Connects when it is asked."""
        self._pool = pool
        self._lookups: Coalescer[Lookup, Found | None] = Coalescer(self._start)
        self._tasks: set[asyncio.Task[None]] = set()

    async def find(self, lookup: Lookup) -> Found | None:
        """The record of a user; None too where Postgres does not answer."""
        return await self._lookups.submit(lookup)

    def _start(self, lookups: Sequence[Lookup], done: Callable[[Sequence[Found | None] | Exception], None]) -> None:
        task = asyncio.create_task(self._find(lookups, done))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _find(
        self, lookups: Sequence[Lookup], done: Callable[[Sequence[Found | None] | Exception], None]
    ) -> None:
        found: Sequence[Found | None] = [None] * len(lookups)
        try:
            async with asyncio.timeout(_TIMEOUT_SECONDS), self._pool.acquire() as connection:
                found = await assignments.find(connection, lookups)
        except Exception as error:
            log.warning("users are not found in PostgreSQL either", error=repr(error))
        finally:
            done(found)
