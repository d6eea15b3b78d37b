"""Counts the requests of bots in memory, and passes them on every second: nobody waits for it."""

import asyncio
from collections import Counter

import structlog

from server import metrics
from storage.redis import bot_requests
from storage.redis.client import Client

log = structlog.get_logger()
_INTERVAL_SECONDS = 1.0


class BotCounter:
    """Requests by experiment number and day; what was counted in the second before a crash is lost."""

    def __init__(self, redis: Client) -> None:
        """Nothing is counted yet."""
        self._redis = redis
        self._requests: Counter[tuple[int, int]] = Counter()

    def count(self, experiment_number: int, day: int) -> None:
        """One more request, on a day since 1970."""
        self._requests[experiment_number, day] += 1
        metrics.bot_requests.inc()

    async def run(self) -> None:
        """Pass on until cancelled."""
        while True:
            await asyncio.sleep(_INTERVAL_SECONDS)
            await self.flush()

    async def flush(self) -> None:
        """Pass on now; what cannot be passed on is kept."""
        requests, self._requests = self._requests, Counter()
        if not requests:
            return
        try:
            await bot_requests.add(self._redis, requests)
        except Exception as error:
            log.warning("bots not counted yet", error=repr(error))
            self._requests.update(requests)
