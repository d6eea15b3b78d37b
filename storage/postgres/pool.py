"""Connections, and the schema they find."""

import asyncio
import json
import logging
from collections.abc import Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from importlib.resources import as_file, files
from typing import cast

import asyncpg
from pogo_core.util import migrate as pogo
from pogo_core.util import sql

from allocator.errors import StoreUnavailableError
from storage.postgres import job_queue, keepalive

SCHEMA = "samplit"
_CONNECT_SECONDS = 10
_MIGRATION_LOCK = 0x5A3B17  # an advisory lock: servers that start together migrate one after the other

_SERVER_SETTINGS = {
    "search_path": SCHEMA,
    "jit": "off",  # no query here is long enough to be worth compiling
    **keepalive.SERVER_SETTINGS,
}
_quiet = logging.getLogger("samplit.migrations")
_quiet.addHandler(logging.NullHandler())
_quiet.propagate = False

Connection = asyncpg.Connection | asyncpg.pool.PoolConnectionProxy
UNREACHABLE = (
    OSError,
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.InterfaceError,
)


def columns(rows: Iterable[Sequence[object] | asyncpg.Record], width: int) -> list[list[object]]:
    """The first `width` columns of rows, each as the array that `unnest` takes."""
    kept = list(rows)
    return [[row[column] for row in kept] for column in range(width)]


async def connect(dsn: str) -> asyncpg.Connection:
    """One connection. Raises StoreUnavailableError, naming the host but no secret."""
    try:
        connection = await asyncpg.connect(dsn, timeout=_CONNECT_SECONDS, server_settings=_SERVER_SETTINGS)
    except (OSError, ValueError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise StoreUnavailableError(f"PostgreSQL does not answer at SAMPLIT_POSTGRES_DSN: {error}") from error
    await _set_up(connection)
    return connection


def snapshot(connection: Connection) -> AbstractAsyncContextManager[object]:
    """A transaction that reads everything as of one moment."""
    transaction: AbstractAsyncContextManager[object] = connection.transaction(
        isolation="repeatable_read", readonly=True
    )
    return transaction


async def create_pool(dsn: str, *, size: int) -> asyncpg.Pool:
    """A pool of at most `size` connections. Raises StoreUnavailableError."""
    try:
        return await asyncpg.create_pool(
            dsn,
            min_size=1,
            max_size=size,
            timeout=_CONNECT_SECONDS,
            server_settings=_SERVER_SETTINGS,
            init=_set_up,
        )
    except (OSError, ValueError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise StoreUnavailableError(f"PostgreSQL does not answer at SAMPLIT_POSTGRES_DSN: {error}") from error


async def migrate(dsn: str) -> None:
    """Bring the schema up to date. Safe to run from several processes at once."""
    connection = await connect(dsn)
    try:
        await connection.execute("SELECT pg_advisory_lock($1)", _MIGRATION_LOCK)
        await connection.execute(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}")
        with as_file(files("storage.postgres") / "migrations") as folder:
            await sql.ensure_pogo_sync(connection)
            applied = await sql.get_applied_migrations(connection, schema_name=SCHEMA)
            if not {path.stem for path in folder.glob("*.sql")} <= applied:  # to parse them takes a third of a second
                await pogo.apply(connection, folder, schema_name=SCHEMA, logger=_quiet)
        await job_queue.install(connection)
    finally:
        await connection.close()


async def drop_schema(dsn: str) -> None:
    """Delete everything that Samplit keeps in this database."""
    connection = await connect(dsn)
    try:
        await connection.execute(f"DROP SCHEMA IF EXISTS {SCHEMA} CASCADE")
        if await connection.fetchval("SELECT to_regclass('public._pogo_migration')"):
            await connection.execute("DELETE FROM public._pogo_migration WHERE schema_name = $1", SCHEMA)
    finally:
        await connection.close()


async def agree_on_installation(connection: Connection, identity_fingerprint: bytes, shards: int) -> None:
    """Make sure that all servers of this database hash users alike.

    Raises:
        StoreUnavailableError: the database belongs to an installation with another identity key or shard count.
    """
    row = await connection.fetchrow(
        """
        INSERT INTO installation (identity_fingerprint, shards) VALUES ($1, $2)
        ON CONFLICT (singleton) DO UPDATE SET singleton = true
        RETURNING identity_fingerprint, shards
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


async def _set_up(connection: Connection) -> None:
    await keepalive.keep_alive(connection)
    await connection.set_type_codec("jsonb", encoder=json.dumps, decoder=json.loads, schema="pg_catalog")


async def close_pool(pool: asyncpg.Pool, *, seconds: float = 5) -> None:
    """Close, and cut what does not end in time."""
    try:
        await asyncio.wait_for(pool.close(), seconds)
    except TimeoutError:
        pool.terminate()
