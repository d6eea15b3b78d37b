"""Reports, in named sub-services of the health service, which stores this process can use. It only reads.

The overall health stays SERVING: users are still answered, and a balancer must not take all servers out at once.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

import structlog

from server.allocation.catalog import Catalog
from server.allocation.epochs import Epochs
from storage.postgres.pool import Pool, answers
from storage.redis.function_connection import FunctionConnection

log = structlog.get_logger()
REDIS = "samplit.redis"  # sticky records can be read and written
SNAPSHOTS = "samplit.snapshots"  # this process decides by what is published
POSTGRES = "samplit.postgres"  # the control plane can be used
SUB_SERVICES = (REDIS, SNAPSHOTS, POSTGRES)
_MISSED_POLLS = 3
_POSTGRES_SECONDS = 2.0


class HealthReporter:
    """Looks at every poll interval, and reports what changed."""

    def __init__(
        self,
        connections: Sequence[FunctionConnection],
        pool: Pool,
        catalog: Catalog,
        epochs: Epochs,
        poll_interval: float,
        report: Callable[[str, bool], Awaitable[None]],
        has_room: Callable[[], bool] = lambda: True,
    ) -> None:
        """`report` is given a sub-service and whether it serves.

        has_room: whether there is room on the disk of embedded stores. They cannot be written to without.
        """
        self._has_room = has_room
        self._connections = connections
        self._pool = pool
        self._catalog = catalog
        self._epochs = epochs
        self._poll_interval = poll_interval
        self._report = report
        self._reported: dict[str, bool] = {}

    async def run(self) -> None:
        """Watch until cancelled."""
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._epochs.changed.wait(), self._poll_interval)
            self._epochs.changed.clear()
            await self.look()

    async def look(self) -> None:
        """Look once, and report."""
        is_connected = all(connection.is_connected for connection in self._connections)
        has_room = self._has_room()
        await self._set(REDIS, self._epochs.are_complete and is_connected and has_room)
        age = time.monotonic() - self._catalog.current_at
        await self._set(SNAPSHOTS, age < _MISSED_POLLS * self._poll_interval)
        await self._set(POSTGRES, has_room and await answers(self._pool, seconds=_POSTGRES_SECONDS))

    async def _set(self, service: str, serves: bool) -> None:
        if self._reported.get(service) == serves:
            return
        if service in self._reported or not serves:
            log.warning("health changed", service=service, serves=serves)
        self._reported[service] = serves
        await self._report(service, serves)
