"""Connections to PostgreSQL. What their sessions have in common is set here."""

import asyncio
import json
from collections.abc import Iterable, Mapping
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
_NO_SETTINGS: Mapping[str, str] = {}

Connection: TypeAlias = asyncpg.Connection | asyncpg.pool.PoolConnectionProxy
Pool: TypeAlias = asyncpg.Pool
UNREACHABLE = (
    OSError,
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.DiskFullError,
    asyncpg.InterfaceError,
)
CONFLICT = (asyncpg.SerializationError, asyncpg.DeadlockDetectedError)  # the same transaction may succeed if repeated
LOCKED = (asyncpg.LockNotAvailableError,)  # another session has held a lock for longer than this one may wait
TIMED_OUT = (asyncpg.QueryCanceledError,)  # the statement took longer than its session allows
REFUSED_DATA = (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError)  # it fails whenever it is repeated


def time_limits(*, statement_seconds: float, lock_seconds: float) -> dict[str, str]:
    """Return settings of a session: how long a statement may take, and how long it may wait for a lock."""
    return {
        "statement_timeout": f"{1000 * statement_seconds:.0f}",
        "lock_timeout": f"{1000 * lock_seconds:.0f}",
    }


def columns(rows: Iterable[object], *names: str) -> list[list[object]]:
    """Return the values of each attribute over all rows: one list for each name, as `unnest` takes them.

    A name may lead to an attribute of an attribute, "cell.day".
    """
    kept = list(rows)
    return [list(map(attrgetter(name), kept)) for name in names]


async def connect(dsn: str, settings: Mapping[str, str] = _NO_SETTINGS) -> asyncpg.Connection:
    """Return one connection, with more settings of its session. Raises StoreUnavailableError, without a secret."""
    server_settings = {**_SERVER_SETTINGS, **settings}
    try:
        connection = await asyncpg.connect(dsn, timeout=_CONNECT_SECONDS, server_settings=server_settings)
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


async def create_pool(dsn: str, *, size: int, settings: Mapping[str, str] = _NO_SETTINGS) -> asyncpg.Pool:
    """Return a pool of at most `size` connections, with more settings of their sessions.

    Raises StoreUnavailableError.
    """
    try:
        return await asyncpg.create_pool(
            dsn,
            min_size=1,
            max_size=size,
            timeout=_CONNECT_SECONDS,
            server_settings={**_SERVER_SETTINGS, **settings},
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
