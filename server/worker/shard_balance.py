"""Balances the shards between the workers: each may drain as many as any other, or one more."""

import asyncio
import math

import structlog

from storage.postgres import locks

log = structlog.get_logger()
_INTERVAL_SECONDS = 2.0


class ShardBalance:
    """Says how many shards this worker may drain. `held` is how many it drains."""

    def __init__(self, dsn: str, shards: int) -> None:
        """Take this worker for the only one until `run` has counted the others."""
        self._dsn = dsn
        self._shards = shards
        self._fair_share = shards
        self.held = 0

    def may_take(self) -> bool:
        """Return whether this worker may drain one more shard."""
        return self.held < self._fair_share

    def must_give(self) -> bool:
        """Return whether this worker must leave a shard to another worker."""
        return self.held > self._fair_share

    def take(self) -> None:
        """Count a shard whose lease was taken."""
        self.held += 1

    def give(self) -> None:
        """Discount a shard whose lease was given up, or lost."""
        self.held -= 1

    async def run(self) -> None:
        """Count the workers every two seconds until cancelled, through outages of PostgreSQL."""
        while True:
            try:
                async with locks.connect_with_lease(self._dsn, locks.new_worker()) as connection:
                    while True:
                        workers = await locks.count_workers(connection)
                        self._fair_share = math.ceil(self._shards / max(1, workers))
                        await asyncio.sleep(_INTERVAL_SECONDS)
            except Exception as error:
                log.warning(f"workers not counted, trying again in {_INTERVAL_SECONDS:g} s", error=repr(error))
            await asyncio.sleep(_INTERVAL_SECONDS)
