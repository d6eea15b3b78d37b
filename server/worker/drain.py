"""Drains the event stream of a shard: its events are stored in PostgreSQL and then deleted from the stream.

An event is deleted only after the transaction that stored it has committed. So a worker that dies in between leaves it
to the next worker, and storing it again changes nothing.

No batch stops the shard for long: a statement that takes too long is cancelled and the batch is halved, and an event
that makes storing fail whenever it is tried is found by halving and set aside.
"""

import asyncio
import time
from collections.abc import Callable, Sequence

import structlog

from server import metrics
from server.maintenance.shard_epochs import examine
from server.settings import Settings
from server.tasks import run_together
from server.worker.backlog import BacklogReporter
from server.worker.refill import refill
from server.worker.shard_balance import ShardBalance
from storage.events import Event, encode_event
from storage.postgres import locks
from storage.postgres.events import drain
from storage.postgres.events.labels import Labeller
from storage.postgres.operations import redis_shards
from storage.postgres.pool import CONFLICT, REFUSED_DATA, TIMED_OUT, Connection, time_limits
from storage.redis import streams
from storage.redis.client import Client

log = structlog.get_logger()
_RETRY_SECONDS = 1.0
_WAIT_MILLISECONDS = 1_000
_EXAMINE_SECONDS = 1.0
_SESSION = time_limits(statement_seconds=30, lock_seconds=20)  # a batch takes less than a second
_DEFECTS = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)  # of an event that nobody foresaw


class Drain:
    """The drain of one shard. Every worker runs one: the worker with the lease drains, the others stand by."""

    def __init__(
        self,
        dsn: str,
        redis: Client,
        shard: int,
        settings: Settings,
        *,
        shard_balance: ShardBalance,
        labeller: Labeller,
        on_counts_changed: Callable[[set[int]], None],
    ) -> None:
        """Prepare to drain a shard.

        shard_balance: shared by all drains of the worker. on_counts_changed: called with the numbers of the experiments
        whose counts have changed.
        """
        self._shard_balance = shard_balance
        self._labeller = labeller
        self._dsn = dsn
        self._redis = redis
        self._shard = shard
        self._shards = settings.shards
        self._largest_batch = self._batch = settings.drain_batch  # events
        self._on_counts_changed = on_counts_changed
        self._backlog = BacklogReporter(redis, shard)
        self._is_open = False
        self._examined_at = -_EXAMINE_SECONDS

    async def run(self) -> None:
        """Drain until cancelled, through outages of both stores."""
        await run_together(self._drain_while_leased(), self._backlog.run())

    async def _drain_while_leased(self) -> None:
        while True:
            try:
                if self._shard_balance.may_take():
                    lock = locks.drain(self._shard)
                    async with locks.try_connect_with_lease(self._dsn, lock, _SESSION) as connection:
                        await self._drain(connection)
            except Exception as error:
                self._backlog.note_activity(f"trying again after {type(error).__name__}")
                log.warning(f"drain failed, trying again in {_RETRY_SECONDS:g} s", shard=self._shard, error=repr(error))
            await asyncio.sleep(_RETRY_SECONDS)

    async def _drain(self, connection: Connection | None) -> None:
        """Drain over the connection that holds the lease, until another worker should have the shard.

        Without a connection another worker has the lease.
        """
        if connection is None:
            self._backlog.stop_reporting()
            return
        self._backlog.start_reporting()
        self._shard_balance.take()
        try:
            while not self._shard_balance.must_give():
                await self._drain_batch(connection)
        finally:
            self._shard_balance.give()

    async def _drain_batch(self, connection: Connection) -> None:
        """Store the oldest entries, and delete them from the stream. If there are none, wait for some for a second."""
        await self._examine(connection)
        self._backlog.note_activity("reading from the stream")
        entries = await streams.read(self._redis, self._shard, events=self._batch)
        if not entries:
            if not self._is_open:
                self._backlog.note_activity("refilling Redis from PostgreSQL")
                await refill(connection, self._redis, self._shard, self._shards)
            await streams.wait(self._redis, self._shard, milliseconds=_WAIT_MILLISECONDS)
            return
        for damaged in (each for entry in entries for each in entry.damaged):
            await self._set_aside(damaged.payload, damaged.reason)
        await self._store(connection, [event for entry in entries for event in entry.events])
        self._backlog.note_activity("deleting what was stored from the stream")
        await redis_shards.note_drained(connection, self._shard, streams.entry_id(entries[-1].entry_id))
        await streams.forget(self._redis, self._shard, entries)
        self._batch = min(2 * self._batch, self._largest_batch)

    async def _examine(self, connection: Connection) -> None:
        """Look every second whether this is still the Redis that was drained before, and whether the shard is open."""
        now = time.monotonic()
        if now - self._examined_at >= _EXAMINE_SECONDS:
            found = await examine(connection, self._redis, self._shard, self._shards)
            self._is_open = found.epoch is not None
            self._examined_at = now

    async def _store(self, connection: Connection, events: Sequence[Event]) -> None:
        """Store events in one transaction, or in halves if that fails because of them.

        An event that cannot be stored alone is set aside. One that takes too long alone is tried again later, since
        PostgreSQL may be to blame.
        """
        self._backlog.note_activity(f"storing {len(events):,} events in PostgreSQL")
        try:
            self._on_counts_changed(await drain.write(connection, events, self._labeller))
            metrics.drained_events.inc(len(events))
            return
        except CONFLICT:
            raise
        except TIMED_OUT as error:
            if len(events) == 1:
                raise
            self._batch = max(1, len(events) // 4)  # doubled when these are stored
            log.warning(
                "storing takes too long, trying with fewer events",
                shard=self._shard,
                events=len(events),
                error=repr(error),
            )
        except (*REFUSED_DATA, *_DEFECTS) as error:
            if len(events) == 1:
                await self._set_aside(encode_event(events[0]), str(error) or repr(error))
                return
        middle = len(events) // 2
        await self._store(connection, events[:middle])
        await self._store(connection, events[middle:])

    async def _set_aside(self, payload: bytes, reason: str) -> None:
        log.error("event cannot be stored, set aside in the dead letters", shard=self._shard, reason=reason)
        await streams.set_aside(self._redis, self._shard, payload, reason)
        metrics.dead_letters.inc()
