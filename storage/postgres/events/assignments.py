"""Assignments as sticky records: what Postgres knows of users while Redis does not."""

from collections.abc import AsyncIterator, Sequence

import asyncpg

from allocator.experiment import Reason
from storage.postgres.pool import Connection, columns, snapshot
from storage.records import EXISTING, RECORD, Found, Lookup

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
    """The records of users, None where there is none."""
    users = [(lookup.experiment, lookup.user_key) for lookup in lookups]
    rows = await connection.fetch(_FIND, *columns(users, 2))
    found = {(row["experiment_no"], row["user_key"]): Found(EXISTING, *_record(row)) for row in rows}
    return [found.get(user) for user in users]


async def packed_records(
    connection: asyncpg.Connection, shard: int, shards: int, *, chunk: int
) -> AsyncIterator[list[tuple[int, bytes, bytes]]]:
    """All records of a shard's users, packed, by experiment number and user key: in chunks of one snapshot."""
    async with snapshot(connection):
        cursor = await connection.cursor(_ALL, shards, shard)
        while rows := await cursor.fetch(chunk):
            yield [(row["experiment_no"], row["user_key"], RECORD.pack(*_record(row))) for row in rows]


def _record(row: asyncpg.Record) -> tuple[int, int, int, int, int, int]:
    return (
        row["assigned_at"],
        row["variant_no"],
        Reason[row["reason"]],
        row["segmentation_version"],
        row["segment_no"],
        row["day"],
    )
