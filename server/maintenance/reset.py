"""Deletes an installation: everything in its stores, and the secrets without which nothing of it could be read.

The caller opens the data directory, which locks it: no server can run on it meanwhile.
"""

import shutil

from storage.engines.directory import DataDirectory
from storage.postgres.schema import drop_schema
from storage.redis.client import Client, delete_all

_FOLDERS = ("postgres", "valkey", "secrets", "metrics")


async def reset_embedded(directory: DataDirectory) -> None:
    """Delete an installation whose stores live in its data directory."""
    await directory.stop_orphans()
    _delete_folders(directory)


async def reset_external(directory: DataDirectory, dsn: str, redis: Client) -> None:
    """Delete Samplit's schema and keys in external stores, and then the data directory.

    Raises:
        StoreUnavailableError: Postgres does not answer at `dsn`. Nothing is deleted then.
    """
    await drop_schema(dsn)
    await delete_all(redis)
    _delete_folders(directory)


def _delete_folders(directory: DataDirectory) -> None:
    for name in _FOLDERS:
        shutil.rmtree(directory.path / name, ignore_errors=True)
