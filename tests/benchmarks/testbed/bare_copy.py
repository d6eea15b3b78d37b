"""The reference of the drain: rows of `assignments` are only copied, into a table with the same costs."""

from collections.abc import Sequence

import asyncpg

_TABLE = "bare_assignments"
_LIKE = "CREATE TABLE bare_assignments (LIKE assignments INCLUDING ALL) PARTITION BY {}"
_PARTITIONS = """
    SELECT relname, pg_get_expr(relpartbound, oid) AS bounds FROM pg_class JOIN pg_inherits ON inhrelid = oid
    WHERE inhparent = 'assignments'::regclass ORDER BY relname
"""
_FOREIGN_KEYS = """
    SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = 'assignments'::regclass AND contype = 'f'
"""


async def create_table(connection: asyncpg.Connection) -> None:
    """Create an empty table with the columns, checks, indexes, partitions and foreign keys of `assignments`."""
    await connection.execute(
        _LIKE.format(await connection.fetchval("SELECT pg_get_partkeydef('assignments'::regclass)"))
    )
    for name, bounds in await connection.fetch(_PARTITIONS):
        await connection.execute(f"CREATE TABLE bare_{name} PARTITION OF {_TABLE} {bounds}")
    for (foreign_key,) in await connection.fetch(_FOREIGN_KEYS):
        await connection.execute(f"ALTER TABLE {_TABLE} ADD {foreign_key}")


async def read(
    connection: asyncpg.Connection, experiment_number: int, user_keys: Sequence[bytes]
) -> list[tuple[object, ...]]:
    """Return the rows of these users, in this order, with every column. The connection must have no codecs."""
    rows = await connection.fetch(
        "SELECT * FROM assignments WHERE experiment_no = $1 AND user_key = ANY($2)", experiment_number, user_keys
    )
    found = {row["user_key"]: tuple(row) for row in rows}
    return [found[user_key] for user_key in user_keys]


async def copy(connection: asyncpg.Connection, rows: Sequence[tuple[object, ...]]) -> None:
    """Copy one batch, in a transaction."""
    async with connection.transaction():
        await connection.copy_records_to_table(_TABLE, records=rows)
