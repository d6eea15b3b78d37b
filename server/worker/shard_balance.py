"""How many shards a worker may drain, so that all workers have about as many."""

import asyncio

import structlog

from storage.postgres import locks

log = structlog.get_logger()
_INTERVAL_SECONDS = 2.0


class ShardBalance:
    """Counts the leases of this worker (`held`), and the workers."""

    def __init__(self, dsn: str, shards: int) -> None:
        """Alone until `run` has counted others."""
        self._dsn = dsn
        self._shards = shards
        self._most = shards
        self.held = 0

    def may_take(self) -> bool:
        """Whether there is room for one more shard."""
        return self.held < self._most

    def must_give(self) -> bool:
        """Whether another worker should have one of ours."""
        return self.held > self._most

    def take(self) -> None:
        """A lease was taken."""
        self.held += 1

    def give(self) -> None:
        """A lease was given up, or lost."""
        self.held -= 1

    async def run(self) -> None:
        """Count until cancelled, through outages of Postgres."""
        while True:
            try:
                async with locks.connect_with_lease(self._dsn, locks.new_worker()) as connection:
                    while True:
                        workers = await locks.count_workers(connection)
                        self._most = -(-self._shards // max(1, workers))
                        await asyncio.sleep(_INTERVAL_SECONDS)
            except Exception as error:
                log.warning("workers not counted", error=repr(error))
            await asyncio.sleep(_INTERVAL_SECONDS)
