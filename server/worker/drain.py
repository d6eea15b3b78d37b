"""Drains one shard's event stream into Postgres under a lease, and acknowledges only after commit."""

import asyncio
from collections.abc import Callable

import structlog

from server import metrics
from server.settings import Settings
from server.tasks import run_together
from server.worker.backlog import Backlog
from server.worker.refill import refill
from server.worker.shard_balance import ShardBalance
from storage.events import Event, encode_event
from storage.postgres import locks
from storage.postgres.events import drain
from storage.postgres.events.labels import Labeller
from storage.postgres.pool import REFUSED_DATA, Connection
from storage.redis import streams
from storage.redis.client import Client

log = structlog.get_logger()
_RETRY_SECONDS = 1.0
_WAIT_MILLISECONDS = 1_000


class Drain:
    """One shard's drain. Several workers may run it: the one with the lease works, the others stand by."""

    def __init__(
        self,
        dsn: str,
        redis: Client,
        shard: int,
        settings: Settings,
        *,
        share: ShardBalance,
        labeller: Labeller,
        counted: Callable[[set[int]], None],
    ) -> None:
        """`share` is common to the worker's shards; `counted` is told which experiments' counts changed."""
        self._share = share
        self._labeller = labeller
        self._dsn = dsn
        self._redis = redis
        self._shard = shard
        self._shards = settings.shards
        self._batch = settings.drain_batch
        self._counted = counted
        self._backlog = Backlog(redis, shard)

    async def run(self) -> None:
        """Drain until cancelled, through outages of both stores."""
        await run_together(self._keep_on(), self._backlog.run())

    async def _keep_on(self) -> None:
        while True:
            try:
                if self._share.may_take():
                    async with locks.try_connect_with_lease(self._dsn, locks.drain(self._shard)) as connection:
                        await self._drain(connection)
            except Exception as error:
                log.warning("drain interrupted", shard=self._shard, error=repr(error))
            await asyncio.sleep(_RETRY_SECONDS)

    async def _drain(self, connection: Connection | None) -> None:
        """Drain while the lease's connection lives; return if another worker has the lease, or should have it."""
        if connection is None:
            self._backlog.leave()
            return
        self._backlog.take()
        self._share.take()
        try:
            while not self._share.must_give():
                await self._drain_batch(connection)
        finally:
            self._share.give()

    async def _drain_batch(self, connection: Connection) -> None:
        """Store the oldest entries, and forget them; without any, wait for some."""
        entries = await streams.read(self._redis, self._shard, entries=self._batch)
        if not entries:
            if not await streams.is_open(self._redis, self._shard):
                await refill(connection, self._redis, self._shard, self._shards)
            await streams.wait(self._redis, self._shard, milliseconds=_WAIT_MILLISECONDS)
            return
        for damaged in (each for entry in entries for each in entry.damaged):
            await self._set_aside(damaged.payload, damaged.reason)
        await self._store(connection, [event for entry in entries for event in entry.events])
        await streams.forget(self._redis, self._shard, entries)

    async def _store(self, connection: Connection, events: list[Event]) -> None:
        try:
            self._counted(await drain.write(connection, events, self._labeller))
            metrics.drained_events.inc(len(events))
        except REFUSED_DATA as error:
            if len(events) == 1:
                await self._set_aside(encode_event(events[0]), str(error))
                return
            for event in events:
                await self._store(connection, [event])

    async def _set_aside(self, payload: bytes, reason: str) -> None:
        log.error("event set aside", shard=self._shard, reason=reason)
        await streams.set_aside(self._redis, self._shard, payload, reason)
        metrics.dead_letters.inc()
