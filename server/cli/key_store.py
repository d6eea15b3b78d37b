"""The stored API keys of an installation on this machine, changed and published."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import TypeVar

import asyncpg

from server.api.authentication import SCOPES, NewKey, new_key
from server.cli.errors import CommandError
from server.cli.local import run_explained, with_running_stores
from server.clock import system_clock
from server.settings import Settings
from storage.postgres.operations import api_keys as stored_keys
from storage.postgres.pool import connect
from storage.redis import api_keys
from storage.redis.client import create_client

Result = TypeVar("Result")
_ACTOR = "cli"  # whoever may run commands on this machine


def create(settings: Settings, name: str, scopes: tuple[str, ...]) -> NewKey:
    """Make a key. Raises CommandError for an unknown scope."""
    unknown = [scope for scope in scopes if scope not in SCOPES]
    if unknown:
        raise CommandError(f"--scope must be one of {', '.join(SCOPES)}; is {unknown[0]!r}")
    key = new_key()

    async def insert(connection: asyncpg.Connection, now: datetime) -> None:
        await stored_keys.insert(
            connection,
            key_id=key.key_id,
            name=name,
            secret_hash=key.secret_hash,
            scopes=scopes,
            actor=_ACTOR,
            now=now,
        )

    _with_stores(settings, insert)
    return key


def list_all(settings: Settings) -> list[stored_keys.ApiKey]:
    """Every key, revoked ones too."""
    return _with_stores(settings, lambda connection, _now: stored_keys.list_all(connection))


def revoke(settings: Settings, key_id: str) -> bool:
    """Close a key; whether there was an open one."""
    return _with_stores(settings, lambda connection, now: stored_keys.revoke(connection, key_id, actor=_ACTOR, now=now))


def _with_stores(settings: Settings, action: Callable[[asyncpg.Connection, datetime], Awaitable[Result]]) -> Result:
    """Do something with the stored keys, then publish the active ones."""

    async def run() -> Result:
        dsn, url = with_running_stores(settings).stores
        connection = await connect(dsn)
        redis = create_client(url)
        try:
            result = await action(connection, system_clock())
            await api_keys.publish(redis, await stored_keys.active(connection))
            return result
        finally:
            await redis.aclose()
            await connection.close()

    return run_explained(lambda: asyncio.run(run()))
