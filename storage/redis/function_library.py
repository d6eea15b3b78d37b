"""The function library. Its name contains its version, so that servers of two releases each find their own."""

from collections.abc import Sequence
from hashlib import blake2b
from importlib.resources import files
from typing import Any

import redis.exceptions
from redis.asyncio import RedisCluster

from allocator.errors import StoreUnavailableError
from storage.redis.client import Client

_SOURCE = (files("storage.redis") / "functions.lua").read_text()
_VERSION = blake2b(_SOURCE.encode(), digest_size=4).hexdigest()
_PLACEHOLDER = "VERSION"
_NAME = f"samplit_{_VERSION}"


def function(name: str) -> str:
    """Return the name under which a function of this release is registered."""
    return f"{_NAME}_{name}"


async def call(client: Client, name: str, keys: Sequence[str], *arguments: bytes | str | int) -> Any:
    """Call a function and return its answer. The library is loaded first if this Redis has lost it."""
    try:
        return await client.fcall(function(name), len(keys), *keys, *arguments)
    except redis.exceptions.ResponseError as error:
        if "Function not found" not in str(error):
            raise
    await load(client)
    return await client.fcall(function(name), len(keys), *keys, *arguments)


async def load(client: Client) -> None:
    """Load the library wherever it is missing, on every primary of a cluster. A Redis that was emptied has none."""
    for where in await _primaries(client):
        if await client.execute_command("FUNCTION LIST", "LIBRARYNAME", _NAME, **where):
            continue
        try:
            await client.execute_command("FUNCTION LOAD", _SOURCE.replace(_PLACEHOLDER, _VERSION), **where)
        except redis.exceptions.ResponseError as error:
            if "already exists" not in str(error):  # another process was quicker
                raise


async def prepare(client: Client, *, allow_volatile: bool = False) -> None:
    """Check that this Redis can be relied on, and load the library.

    allow_volatile: accept a Redis without an append-only file.

    Raises:
        StoreUnavailableError: it does not answer, could evict keys, keeps no append-only file, is too old for
            functions, or is a cluster which the URL does not call one.
    """
    try:
        for where in await _primaries(client):
            found = await client.info(**where)
            policy = found.get("maxmemory_policy", "noeviction")
            if policy != "noeviction":
                raise StoreUnavailableError(
                    f"Redis at SAMPLIT_REDIS_URL may evict keys (maxmemory-policy is {policy}): "
                    "users would change their variant. Set maxmemory-policy to noeviction"
                )
            if not found.get("aof_enabled") and not allow_volatile:
                raise StoreUnavailableError(
                    "Redis at SAMPLIT_REDIS_URL keeps no append-only file: a restart would lose assignments and "
                    "conversions that were acknowledged. Set appendonly to yes, or SAMPLIT_ALLOW_VOLATILE_REDIS=true"
                )
            if found.get("cluster_enabled") and not isinstance(client, RedisCluster):
                raise StoreUnavailableError("Redis at SAMPLIT_REDIS_URL is a cluster: begin the URL redis+cluster://")
        await load(client)
    except redis.exceptions.RedisError as error:
        raise StoreUnavailableError(f"Redis does not answer at SAMPLIT_REDIS_URL: {error}") from error


async def is_volatile(client: Client) -> bool:
    """Return whether this Redis, or any primary of a cluster, keeps no append-only file."""
    return any(
        [not (await client.info("persistence", **where)).get("aof_enabled") for where in await _primaries(client)]
    )


async def _primaries(client: Client) -> list[dict[str, Any]]:
    """Return, for each primary, the arguments that send a command to it."""
    if isinstance(client, RedisCluster):
        await client.initialize()
        return [{"target_nodes": node} for node in client.get_primaries()]
    return [{}]
