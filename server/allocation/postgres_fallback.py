"""While Redis is away: users whom Postgres knows keep their variant, in any experiment that it knows."""

import asyncio
from collections.abc import Callable, Sequence

import asyncpg
import structlog

from server.allocation.coalescer import Coalescer
from server.logs import LogThrottle
from storage.encryption import Secrets
from storage.postgres.events import assignments
from storage.postgres.experiments import experiments, posteriors
from storage.postgres.segmentation import cluster_models
from storage.records import Found, Lookup
from storage.redis.publications import Published, open_posterior

log = structlog.get_logger()
_throttle = LogThrottle()
_TIMEOUT_SECONDS = 0.5


class Postgres:
    """Looks users up, coalesced. Nothing is written: there is one writer of assignments, and that is Redis."""

    def __init__(self, pool: asyncpg.Pool, secrets: Secrets) -> None:
        """Connects when it is asked."""
        self._pool = pool
        self._secrets = secrets
        self._lookups: Coalescer[Lookup, Found | None] = Coalescer(self._start)
        self._tasks: set[asyncio.Task[None]] = set()

    async def find(self, lookup: Lookup) -> Found | None:
        """The record of a user; None too where Postgres does not answer."""
        return await self._lookups.submit(lookup)

    async def experiment(self, experiment_id: str) -> Published | None:
        """What would be published of an experiment."""
        async with asyncio.timeout(_TIMEOUT_SECONDS), self._pool.acquire() as connection:
            experiment = await experiments.get(connection, experiment_id)
            if experiment is None:
                return None
            sealed = await posteriors.load(connection, experiment.number)
        if sealed is None:
            return Published(experiment, None)
        return Published(experiment, open_posterior(self._secrets, experiment_id, sealed.version, sealed.ciphertext))

    async def model(self, experiment_number: int, version: int) -> bytes | None:
        """An encrypted cluster model."""
        async with asyncio.timeout(_TIMEOUT_SECONDS), self._pool.acquire() as connection:
            return await cluster_models.sealed(connection, experiment_number, version)

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
            if calls := _throttle.admit("find"):
                log.warning("users are not found in PostgreSQL either", calls=calls, error=repr(error))
        finally:
            done(found)
