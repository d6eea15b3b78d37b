"""Counts the requests of bots in memory, and adds them to Redis every second. No call waits for it."""

import asyncio
from collections import Counter

import structlog

from server import metrics
from storage.redis import bot_requests
from storage.redis.client import Client

log = structlog.get_logger()
_INTERVAL_SECONDS = 1.0


class BotCounter:
    """Counts requests by experiment number and day. A crash loses what was counted in its last second."""

    def __init__(self, redis: Client) -> None:
        self._redis = redis
        self._requests: Counter[tuple[int, int]] = Counter()

    def count(self, experiment_number: int, day: int) -> None:
        """Count one request. `day` is in days since 1970-01-01."""
        self._requests[experiment_number, day] += 1
        metrics.bot_requests.inc()

    async def run(self) -> None:
        """Add the counts to Redis every second, until cancelled."""
        while True:
            await asyncio.sleep(_INTERVAL_SECONDS)
            await self.flush()

    async def flush(self) -> None:
        """Add the counts to Redis now. Counts that cannot be added are kept."""
        requests, self._requests = self._requests, Counter()
        if not requests:
            return
        try:
            await bot_requests.add(self._redis, requests)
        except Exception as error:
            log.warning("bots not counted yet", error=repr(error))
            self._requests.update(requests)
