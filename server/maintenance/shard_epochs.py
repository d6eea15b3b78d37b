"""Opens shards of Redis, and recognises a Redis that was replaced by an older copy of itself.

PostgreSQL keeps a record of each shard. An older copy has another epoch, or its stream has not come as far as it was
drained. Users who were assigned since are missing in it, so its shards are closed, and the worker refills them.
"""

import structlog

from storage.postgres.operations import redis_shards
from storage.postgres.pool import Connection
from storage.redis import completeness, streams
from storage.redis.client import Client
from storage.redis.streams import Generation

log = structlog.get_logger()


async def open_shard(connection: Connection, redis: Client, shard: int) -> None:
    """Give a shard whose records are complete a new epoch, unless it has one."""
    epoch = streams.new_epoch()
    await redis_shards.announce(connection, shard, epoch)
    await streams.open_shard(redis, shard, epoch)
    await _confirm(connection, shard, await streams.generation(redis, shard))


async def examine(connection: Connection, redis: Client, shard: int, shards: int) -> Generation:
    """Close the shards of an older copy of Redis, and renew the epoch of a shard after each start of Redis.

    shards: how many there are. Returns the state of the shard; its epoch is None if the shard is closed.
    """
    found = await streams.generation(redis, shard)
    if found.epoch is None:
        return found
    known = await redis_shards.get(connection, shard)
    if known is None or (known.epoch is None and known.next_epoch is None):  # opened by a release without this record
        await _confirm(connection, shard, found)
        return found
    if found.epoch not in (known.epoch, known.next_epoch) or found.last_entry < known.drained:
        await _forget_older_copy(redis, shards)
        return found._replace(epoch=None)
    if found.run_id != known.run_id or found.epoch != known.epoch:
        epoch = streams.new_epoch()
        await redis_shards.announce(connection, shard, epoch)
        await streams.renew_epoch(redis, shard, epoch)
        found = await streams.generation(redis, shard)
        await _confirm(connection, shard, found)
    return found


async def _confirm(connection: Connection, shard: int, found: Generation) -> None:
    if found.epoch is not None:
        await redis_shards.confirm(connection, shard, found.epoch, found.run_id, found.last_entry)


async def _forget_older_copy(redis: Client, shards: int) -> None:
    log.error("Redis holds an older copy of its data, as after a restore: it is refilled from PostgreSQL")
    for shard in range(shards):
        await streams.close_shard(redis, shard)
    await completeness.forget_all(redis)
    await completeness.forget_registries(redis)
