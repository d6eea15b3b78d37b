"""How many shards a worker may drain, so that all workers have about as many."""

import asyncio
import secrets

import structlog

from storage.postgres.pool import connect

log = structlog.get_logger()
_WORKERS = 0x5A3B1A  # class of the advisory locks that say who works: each worker holds one, until it dies
_INTERVAL_SECONDS = 2.0
_COUNT = """
    SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND classid = $1 AND granted
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""


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
                connection = await connect(self._dsn)
                try:
                    await connection.execute("SELECT pg_advisory_lock($1, $2)", _WORKERS, secrets.randbits(31))
                    while True:
                        workers: int = await connection.fetchval(_COUNT, _WORKERS)
                        self._most = -(-self._shards // max(1, workers))
                        await asyncio.sleep(_INTERVAL_SECONDS)
                finally:
                    connection.terminate()
            except Exception as error:
                log.warning("workers not counted", error=repr(error))
            await asyncio.sleep(_INTERVAL_SECONDS)
