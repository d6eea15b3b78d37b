"""What PostgreSQL knows of the shards of Redis: their epochs, and how far their streams were drained.

A restored older copy of Redis does not agree with it. Knows nothing of Redis itself.
"""

from typing import NamedTuple

from storage.events import EntryId
from storage.postgres.pool import Connection

_GET = """
    SELECT epoch, next_epoch, run_id, drained_milliseconds, drained_sequence FROM redis_shards WHERE shard = $1
"""
_ANNOUNCE = """
    INSERT INTO redis_shards (shard, next_epoch) VALUES ($1, $2)
    ON CONFLICT (shard) DO UPDATE SET next_epoch = excluded.next_epoch
"""
_CONFIRM = """
    INSERT INTO redis_shards (shard, epoch, run_id, drained_milliseconds, drained_sequence) VALUES ($1, $2, $3, $4, $5)
    ON CONFLICT (shard) DO UPDATE SET epoch = excluded.epoch, next_epoch = NULL, run_id = excluded.run_id,
        drained_milliseconds = excluded.drained_milliseconds, drained_sequence = excluded.drained_sequence
"""
_NOTE_DRAINED = """
    UPDATE redis_shards SET drained_milliseconds = $2, drained_sequence = $3
    WHERE shard = $1 AND (drained_milliseconds, drained_sequence) < ($2, $3)
"""


class ShardRecord(NamedTuple):
    """A shard as it was last. `next_epoch` is one that Redis may have got already; `run_id` the process of Redis."""

    epoch: bytes | None
    next_epoch: bytes | None
    run_id: str
    drained: EntryId


async def get(connection: Connection, shard: int) -> ShardRecord | None:
    """Return what is known of a shard, or None."""
    row = await connection.fetchrow(_GET, shard)
    if row is None:
        return None
    drained = EntryId(row["drained_milliseconds"], row["drained_sequence"])
    return ShardRecord(row["epoch"], row["next_epoch"], row["run_id"], drained)


async def announce(connection: Connection, shard: int, epoch: bytes) -> None:
    """Note the epoch that Redis is about to get."""
    await connection.execute(_ANNOUNCE, shard, epoch)


async def confirm(connection: Connection, shard: int, epoch: bytes, run_id: str, drained: EntryId) -> None:
    """Note the epoch that Redis has, the process that has it, and the last entry that was drained."""
    await connection.execute(_CONFIRM, shard, epoch, run_id, drained.milliseconds, drained.sequence)


async def note_drained(connection: Connection, shard: int, drained: EntryId) -> None:
    """Note the last entry that was drained.

    It does not wait for the disk: if a crash of PostgreSQL loses the note, an older one is good enough.
    """
    async with connection.transaction():
        await connection.execute("SET LOCAL synchronous_commit = off")
        await connection.execute(_NOTE_DRAINED, shard, drained.milliseconds, drained.sequence)
