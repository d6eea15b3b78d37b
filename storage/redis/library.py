"""The function library, under a name that has its version: servers of two releases find each their own."""

from collections.abc import Sequence
from hashlib import blake2b
from importlib.resources import files
from typing import Any

import redis.exceptions
from redis.asyncio import Redis

_SOURCE = (files("storage.redis") / "functions.lua").read_text()
_VERSION = blake2b(_SOURCE.encode(), digest_size=4).hexdigest()
_PLACE = "VERSION"


def function(name: str) -> str:
    """The name under which a function of this release is registered."""
    return f"samplit_{_VERSION}_{name}"


async def call(client: Redis, name: str, keys: Sequence[str], *arguments: bytes | str | int) -> Any:
    """The answer of a function, which is loaded first if this Redis has lost it."""
    try:
        return await client.fcall(function(name), len(keys), *keys, *arguments)
    except redis.exceptions.ResponseError as error:
        if "Function not found" not in str(error):
            raise
    await load(client)
    return await client.fcall(function(name), len(keys), *keys, *arguments)


async def load(client: Redis) -> None:
    """Load the library unless it is there: a Redis that was emptied has none."""
    if await client.function_list(library=f"samplit_{_VERSION}"):
        return
    try:
        await client.function_load(_SOURCE.replace(_PLACE, _VERSION))
    except redis.exceptions.ResponseError as error:
        if "already exists" not in str(error):  # another process was quicker
            raise
