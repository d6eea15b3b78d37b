"""Refills a shard whose records are gone, from Postgres.

Whoever drains a shard does this too, between two batches: so what was ever read from its stream is committed.
"""

import structlog

from storage.postgres.events import assignments
from storage.postgres.pool import Connection
from storage.redis import published, sticky, streams
from storage.redis.client import Client

log = structlog.get_logger()
_CHUNK = 500  # records in one call, which holds Redis up for about a millisecond


async def refill(connection: Connection, redis: Client, shard: int, shards: int) -> None:
    """Write every assignment of the shard's users into Redis, and open the shard. Its stream must be drained.

    Does nothing until what Postgres has to publish is there: numbers of segments above all, which records name.
    """
    if not await published.is_complete(redis):
        return
    records = 0
    async for rows in assignments.packed_records(connection, shard, shards, chunk=_CHUNK):
        await sticky.restore(redis, shard, rows)
        records += len(rows)
    await streams.open_shard(redis, shard)
    log.info("records refilled", shard=shard, records=records)
