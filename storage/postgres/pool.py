"""Connections to PostgreSQL. What their sessions have in common is set here."""

import asyncio
import json
from collections.abc import Iterable
from contextlib import AbstractAsyncContextManager
from operator import attrgetter
from typing import TypeAlias

import asyncpg

from allocator.errors import StoreUnavailableError
from storage.postgres import keepalive

SCHEMA = "samplit"
_CONNECT_SECONDS = 10

_SERVER_SETTINGS = {
    "search_path": SCHEMA,
    "jit": "off",  # no query here is long enough to be worth compiling
    **keepalive.SERVER_SETTINGS,
}

Connection: TypeAlias = asyncpg.Connection | asyncpg.pool.PoolConnectionProxy
Pool: TypeAlias = asyncpg.Pool
UNREACHABLE = (
    OSError,
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.InterfaceError,
)
CONFLICT = (asyncpg.SerializationError, asyncpg.DeadlockDetectedError)  # the same transaction may succeed if repeated
REFUSED_DATA = (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError)  # it fails whenever it is repeated


def columns(rows: Iterable[object], *names: str) -> list[list[object]]:
    """Return the values of each attribute over all rows: one list for each name, as `unnest` takes them.

    A name may lead to an attribute of an attribute, "cell.day".
    """
    kept = list(rows)
    return [list(map(attrgetter(name), kept)) for name in names]


async def connect(dsn: str) -> asyncpg.Connection:
    """Return one connection. Raises StoreUnavailableError, naming the host but no secret."""
    try:
        connection = await asyncpg.connect(dsn, timeout=_CONNECT_SECONDS, server_settings=_SERVER_SETTINGS)
    except (OSError, ValueError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise StoreUnavailableError(f"PostgreSQL does not answer at SAMPLIT_POSTGRES_DSN: {error}") from error
    await _set_up(connection)
    return connection


def snapshot(connection: Connection) -> AbstractAsyncContextManager[object]:
    """Return a transaction that reads everything as of one moment."""
    transaction: AbstractAsyncContextManager[object] = connection.transaction(
        isolation="repeatable_read", readonly=True
    )
    return transaction


async def answers(pool: asyncpg.Pool, *, seconds: float) -> bool:
    """Return whether PostgreSQL answers a query in time."""
    try:
        async with asyncio.timeout(seconds), pool.acquire() as connection:
            await connection.execute("SELECT")
    except Exception:
        return False
    return True


async def create_pool(dsn: str, *, size: int) -> asyncpg.Pool:
    """Return a pool of at most `size` connections. Raises StoreUnavailableError."""
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


async def _set_up(connection: Connection) -> None:
    await keepalive.keep_alive(connection)
    await connection.set_type_codec("jsonb", encoder=json.dumps, decoder=json.loads, schema="pg_catalog")


async def close_pool(pool: asyncpg.Pool, *, seconds: float = 5) -> None:
    """Close the pool, and cut connections that are not returned in time."""
    try:
        await asyncio.wait_for(pool.close(), seconds)
    except TimeoutError:
        pool.terminate()
