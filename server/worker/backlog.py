"""Reports how much of a shard's stream is not drained yet. Only the worker that drains the shard reports it."""

import asyncio
import math
from contextlib import suppress

from server import metrics
from storage.redis import streams
from storage.redis.client import Client

_INTERVAL_SECONDS = 1.0


class BacklogReporter:
    """Reports the backlog of one shard as metrics.

    It needs Redis alone, so it goes on while PostgreSQL is down, which is when a backlog grows.
    """

    def __init__(self, redis: Client, shard: int) -> None:
        """Report nothing until `start_reporting`."""
        self._redis = redis
        self._shard = shard
        self._is_reporting = False

    def start_reporting(self) -> None:
        """Report from now on: this worker drains the shard."""
        self._is_reporting = True

    def stop_reporting(self) -> None:
        """Withdraw what was reported: another worker drains the shard."""
        if self._is_reporting:
            self._is_reporting = False
            self._set_gauges(math.nan, math.nan)

    async def run(self) -> None:
        """Report every second, until cancelled."""
        while True:
            await asyncio.sleep(_INTERVAL_SECONDS)
            with suppress(Exception):  # the drain of the shard meets the same trouble, and logs it
                await self.report()

    async def report(self) -> None:
        """Report the backlog as it is now."""
        backlog = await streams.backlog(self._redis, self._shard)
        if self._is_reporting:
            self._set_gauges(backlog.events, backlog.age)

    def _set_gauges(self, events: float, age: float) -> None:
        metrics.stream_events.labels(self._shard).set(events)
        metrics.drain_lag.labels(self._shard).set(age)
