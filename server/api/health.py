"""Says, in named sub-services of the health service, what this process has lost contact with.

The overall health stays SERVING: users are still answered, and a balancer must not take everybody out at once.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

import asyncpg
import structlog

from server.allocation.catalog import Catalog
from server.allocation.records import Records
from storage.postgres.pool import answers
from storage.redis import streams
from storage.redis.client import Client
from storage.redis.function_connection import FunctionConnection

log = structlog.get_logger()
REDIS = "samplit.redis"  # sticky records can be read and written
SNAPSHOTS = "samplit.snapshots"  # what is decided by is what is published
POSTGRES = "samplit.postgres"  # the control plane can be used
SUB_SERVICES = (REDIS, SNAPSHOTS, POSTGRES)
_MISSED_POLLS = 3
_LEAST_SECONDS = 0.1  # between two looks
_POSTGRES_SECONDS = 2.0


class HealthReporter:
    """Looks at every poll interval, and tells only what changed."""

    def __init__(
        self,
        redis: Client,
        links: Sequence[FunctionConnection],
        pool: asyncpg.Pool,
        catalog: Catalog,
        records: Records,
        poll_interval: float,
        tell: Callable[[str, bool], Awaitable[None]],
    ) -> None:
        """`tell` is given a sub-service, and whether it serves."""
        self._redis = redis
        self._links = links
        self._pool = pool
        self._catalog = catalog
        self._records = records
        self._poll_interval = poll_interval
        self._tell = tell
        self._told: dict[str, bool] = {}

    async def run(self) -> None:
        """Watch until cancelled."""
        while True:
            await asyncio.sleep(_LEAST_SECONDS)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._records.stale.wait(), self._poll_interval)
            self._records.stale.clear()  # what is answered by an epoch that is not known yet sets it again
            await self.look()

    async def look(self) -> None:
        """Look once, and tell."""
        await self._say(REDIS, await self._has_redis())
        age = time.monotonic() - self._catalog.current_at
        await self._say(SNAPSHOTS, age < _MISSED_POLLS * self._poll_interval)
        await self._say(POSTGRES, await answers(self._pool, seconds=_POSTGRES_SECONDS))

    async def _has_redis(self) -> bool:
        try:
            return await self._follow() and all(link.is_connected for link in self._links)
        except Exception:
            return False

    async def _follow(self) -> bool:
        """Whether all records are there. Those that were made anew are used once what was known of others is forgotten.

        Segments too: a Redis that lost its data has given their numbers anew.
        """
        epochs = [epoch or b"" for epoch in await streams.epochs(self._redis, len(self._records.epochs))]
        if epochs != self._records.epochs:
            await self._catalog.reload_registries()
            self._records.adopt(epochs)
        return b"" not in epochs

    async def _say(self, service: str, serves: bool) -> None:
        if self._told.get(service) == serves:
            return
        if service in self._told or not serves:
            log.warning("contact", service=service, serves=serves)
        self._told[service] = serves
        await self._tell(service, serves)
