"""Connections to the stores of the installation on this machine."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from server.cli.errors import CommandError
from server.settings import Settings
from storage.engines.embedded import find_running
from storage.postgres.pool import Connection, connect
from storage.redis.client import UNREACHABLE, Client, create_client


@asynccontextmanager
async def open_postgres(settings: Settings) -> AsyncIterator[Connection]:
    """Yield a connection to the installation's PostgreSQL. Raises CommandError, StoreUnavailableError."""
    dsn, _ = _with_running_stores(settings).stores
    connection = await connect(dsn)
    try:
        yield connection
    finally:
        await connection.close()


@asynccontextmanager
async def open_redis(settings: Settings) -> AsyncIterator[Client]:
    """Yield a client of the installation's Redis.

    Raises:
        CommandError: no server runs here, or a call inside the block found Redis out of reach.
    """
    _, url = _with_running_stores(settings).stores
    client = create_client(url)
    try:
        yield client
    except UNREACHABLE as error:
        raise CommandError(f"Redis does not answer ({error}): look whether it runs, and try again") from error
    finally:
        await client.aclose()


def _with_running_stores(settings: Settings) -> Settings:
    """Return the settings with the stores of the server that runs on the data directory. Raises CommandError."""
    if settings.postgres_dsn is not None:
        return settings
    found = find_running(settings.data_dir)
    if found is None:
        raise CommandError(f"no server runs on {settings.data_dir}: start it with `samplit serve`")
    return settings.with_stores(found.postgres_dsn, found.redis_url)
