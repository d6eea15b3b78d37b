"""Says how much of a shard's stream is not drained: whoever drains it says so, and no other worker."""

import asyncio
import math
from contextlib import suppress

from server import metrics
from storage.redis import streams
from storage.redis.client import Client

_TICK_SECONDS = 1.0


class Backlog:
    """One shard's. It goes on through outages of Postgres, which is when a backlog grows."""

    def __init__(self, redis: Client, shard: int) -> None:
        """Nothing is said until `take`."""
        self._redis = redis
        self._shard = shard
        self._is_ours = False

    def take(self) -> None:
        """We drain the shard."""
        self._is_ours = True

    def leave(self) -> None:
        """Another worker drains it."""
        if self._is_ours:
            self._is_ours = False
            self._say(math.nan, math.nan)

    async def run(self) -> None:
        """Say so every second, until cancelled."""
        while True:
            await asyncio.sleep(_TICK_SECONDS)
            with suppress(Exception):  # whoever drains has the same trouble, and logs it
                await self.look()

    async def look(self) -> None:
        """Say so now."""
        found = await streams.backlog(self._redis, self._shard)
        if self._is_ours:
            self._say(found.events, found.age)

    def _say(self, events: float, age: float) -> None:
        metrics.stream_events.labels(self._shard).set(events)
        metrics.drain_lag.labels(self._shard).set(age)
