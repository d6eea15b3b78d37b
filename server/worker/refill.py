"""Refills a shard of Redis whose records are gone, from PostgreSQL.

The worker that drains the shard refills it, between two batches. So all events that it has read are committed before.
"""

import structlog

from server.maintenance.shard_epochs import open_shard
from storage.postgres.events import assignments
from storage.postgres.pool import Connection
from storage.redis import completeness, sticky
from storage.redis.client import Client

log = structlog.get_logger()
_RECORDS_AT_A_TIME = 500  # one call of them blocks Redis for about a millisecond


async def refill(connection: Connection, redis: Client, shard: int, shards: int) -> None:
    """Write the assignments of all users of a shard into Redis, and open the shard. Its stream must be empty.

    Does nothing until the reconciler has published everything, since records name segments by their numbers. shards:
    how many there are.
    """
    if not await completeness.is_complete(redis):
        return
    records = 0
    async for rows in assignments.packed_records(connection, shard, shards, chunk=_RECORDS_AT_A_TIME):
        await sticky.restore(redis, shard, rows)
        records += len(rows)
    await open_shard(connection, redis, shard)
    log.info("shard refilled", shard=shard, records=records)
