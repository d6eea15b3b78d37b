"""The installation on this machine: connections to its stores, and what can go wrong with it, explained to people."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

from allocator.errors import SamplitError
from server.cli.errors import CommandError
from server.runtime.children import ChildFailedError
from server.runtime.ports import PortInUseError
from server.settings import Settings
from storage.encryption import SecretsUnusableError
from storage.engines.embedded import find_running
from storage.engines.errors import EmbeddedError
from storage.postgres.pool import Connection, connect
from storage.redis.client import UNREACHABLE, Client, create_client

Result = TypeVar("Result")


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


def run_explained(action: Callable[[], Result]) -> Result:
    """Do something, and return what it returns. What an operator can put right becomes a CommandError."""
    try:
        return action()
    except (SamplitError, EmbeddedError, SecretsUnusableError, PortInUseError, ChildFailedError) as error:
        raise CommandError(str(error)) from error
    except KeyboardInterrupt:
        raise CommandError("interrupted") from None


def _with_running_stores(settings: Settings) -> Settings:
    """Return the settings with the stores of the server that runs on the data directory. Raises CommandError."""
    if settings.postgres_dsn is not None:
        return settings
    found = find_running(settings.data_dir)
    if found is None:
        raise CommandError(f"no server runs on {settings.data_dir}: start it with `samplit serve`")
    return settings.with_stores(found.postgres_dsn, found.redis_url)
