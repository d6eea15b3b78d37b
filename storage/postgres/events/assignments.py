"""Assignments of the log as sticky records: for users whom Redis does not know, or cannot be asked about."""

import struct
from collections.abc import AsyncIterator, Sequence

import asyncpg
import structlog

from allocator.experiment import Reason
from storage.postgres.pool import Connection, columns, snapshot
from storage.records import EXISTING, Found, Lookup, PackedRecord, pack_record

log = structlog.get_logger()
_RECORD = """
    experiment_no, user_key, extract(epoch FROM assigned_at)::bigint AS assigned_at, variant_no, reason,
    segmentation_version, segment_no, seen_on - DATE '1970-01-01' AS day
"""
_FIND = f"""
    SELECT {_RECORD} FROM assignments
    JOIN unnest($1::int[], $2::bytea[]) AS u (experiment_no, user_key) USING (experiment_no, user_key)
"""  # noqa: S608
_ALL = f"""
    SELECT {_RECORD} FROM assignments
    WHERE (get_byte(user_key, 0) + (get_byte(user_key, 1) << 8) + (get_byte(user_key, 2) << 16)
        + (get_byte(user_key, 3)::bigint << 24)) % $1 = $2
"""  # noqa: S608


async def find(connection: Connection, lookups: Sequence[Lookup]) -> list[Found | None]:
    """Return the record of each user, None where there is none."""
    rows = await connection.fetch(_FIND, *columns(lookups, "experiment", "user_key"))
    found = {(row["experiment_no"], row["user_key"]): _found(row) for row in rows}
    return [found.get((lookup.experiment, lookup.user_key)) for lookup in lookups]


async def packed_records(
    connection: Connection, shard: int, shards: int, *, chunk: int
) -> AsyncIterator[list[PackedRecord]]:
    """Yield all records of a shard's users, in chunks of one snapshot.

    Rows that do not fit into a record are left out: a shard must not stay closed for all users because of one. Their
    users are drawn again, and PostgreSQL keeps what they had.
    """
    async with snapshot(connection):
        cursor = await connection.cursor(_ALL, shards, shard)
        while rows := await cursor.fetch(chunk):
            yield [record for row in rows if (record := _packed(row)) is not None]


def _packed(row: asyncpg.Record) -> PackedRecord | None:
    try:
        return PackedRecord(row["experiment_no"], row["user_key"], pack_record(_found(row)))
    except (LookupError, struct.error) as error:  # no such reason; a number that is too large
        log.error("assignment does not fit into Redis", experiment_number=row["experiment_no"], error=repr(error))
        return None


def _found(row: asyncpg.Record) -> Found:
    return Found(
        code=EXISTING,
        assigned_at=row["assigned_at"],
        variant=row["variant_no"],
        reason=Reason[row["reason"]],
        segmentation_version=row["segmentation_version"],
        segment=row["segment_no"],
        day=row["day"],
    )
