"""Reports how much of a shard's stream is not drained yet. Only the worker that drains the shard reports it."""

import asyncio
import math
import time
from contextlib import suppress

import structlog

from server import metrics
from server.alerts.checks import MOST_WAIT_SECONDS
from storage.redis import streams
from storage.redis.client import Client

log = structlog.get_logger()
_INTERVAL_SECONDS = 1.0
_LOG_SECONDS = 60.0


class BacklogReporter:
    """Reports the backlog of one shard as metrics, and logs what the drain is doing while events wait for long.

    It needs Redis alone, so it goes on while PostgreSQL is down, which is when a backlog grows.
    """

    def __init__(self, redis: Client, shard: int) -> None:
        """Report nothing until `start_reporting`."""
        self._redis = redis
        self._shard = shard
        self._is_reporting = False
        self._activity, self._active_since = "", time.monotonic()
        self._log_from = -math.inf

    def start_reporting(self) -> None:
        """Report from now on: this worker drains the shard."""
        self._is_reporting = True

    def stop_reporting(self) -> None:
        """Withdraw what was reported: another worker drains the shard."""
        if self._is_reporting:
            self._is_reporting = False
            self._set_gauges(math.nan, math.nan)

    def note_activity(self, activity: str) -> None:
        """Note what the drain does from now on, in words."""
        self._activity, self._active_since = activity, time.monotonic()

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
            self._log_if_late(backlog)

    def _log_if_late(self, backlog: streams.Backlog) -> None:
        """Log once a minute while the oldest event has waited for more than a minute."""
        now = time.monotonic()
        if backlog.age <= MOST_WAIT_SECONDS or now < self._log_from:
            return
        self._log_from = now + _LOG_SECONDS
        log.warning(
            "events wait to be stored",
            shard=self._shard,
            events=backlog.events,
            oldest_seconds=round(backlog.age),
            drain=self._activity,
            drain_seconds=round(now - self._active_since),
        )

    def _set_gauges(self, events: float, age: float) -> None:
        metrics.stream_events.labels(self._shard).set(events)
        metrics.drain_lag.labels(self._shard).set(age)
