"""The schema: brought up to date, deleted, and bound to one installation."""

import logging
from hashlib import blake2b
from importlib.resources import as_file, files
from typing import cast

import asyncpg
from pogo_core.util import migrate as pogo
from pogo_core.util import sql

from allocator.errors import StoreUnavailableError
from storage.postgres import job_queue, locks
from storage.postgres.pool import SCHEMA, Connection, connect

_quiet = logging.getLogger("samplit.migrations")
_quiet.addHandler(logging.NullHandler())
_quiet.propagate = False


async def migrate(dsn: str) -> None:
    """Bring the schema up to date. Safe to run from several processes at once."""
    async with locks.connect_with_lease(dsn, locks.MIGRATION) as connection:
        await connection.execute(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}")
        with as_file(files("storage.postgres") / "migrations") as folder:
            await sql.ensure_pogo_sync(connection)
            applied = await sql.get_applied_migrations(connection, schema_name=SCHEMA)
            if not {path.stem for path in folder.glob("*.sql")} <= applied:  # to parse them takes a third of a second
                await pogo.apply(connection, folder, schema_name=SCHEMA, logger=_quiet)
        await job_queue.install(connection)


async def drop_schema(dsn: str) -> None:
    """Delete everything that Samplit keeps in this database."""
    connection = await connect(dsn)
    try:
        await connection.execute(f"DROP SCHEMA IF EXISTS {SCHEMA} CASCADE")
        if await connection.fetchval("SELECT to_regclass('public._pogo_migration')"):
            await connection.execute("DELETE FROM public._pogo_migration WHERE schema_name = $1", SCHEMA)
    finally:
        await connection.close()


async def agree_on_installation(connection: Connection, identity_fingerprint: bytes, shards: int) -> bytes:
    """Make sure that all servers of this database hash users alike. Returns 16 bytes that tell the installation.

    A copy of the secrets with another database is another installation.

    Raises:
        StoreUnavailableError: the database belongs to an installation with another identity key or shard count.
    """
    row = await connection.fetchrow(
        """
        INSERT INTO installation (identity_fingerprint, shards) VALUES ($1, $2)
        ON CONFLICT (singleton) DO UPDATE SET singleton = true
        RETURNING identity_fingerprint, shards, installation_id
        """,
        identity_fingerprint,
        shards,
    )
    found = cast("asyncpg.Record", row)
    if (bytes(found["identity_fingerprint"]), found["shards"]) != (identity_fingerprint, shards):
        raise StoreUnavailableError(
            "this database was set up with another identity key or number of shards: "
            "give this server the secrets/ folder of the first one"
        )
    return _fingerprint(found)


async def installation_fingerprint(connection: Connection) -> bytes:
    """Return the 16 bytes that tell the installation of this database, which must be set up."""
    row = await connection.fetchrow("SELECT identity_fingerprint, installation_id FROM installation")
    return _fingerprint(cast("asyncpg.Record", row))


def _fingerprint(row: asyncpg.Record) -> bytes:
    return blake2b(row["identity_fingerprint"] + row["installation_id"].bytes, digest_size=16).digest()
