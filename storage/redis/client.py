"""The connection to Redis, checked at start, and the function library loaded on it."""

from typing import cast

import redis.exceptions
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from allocator.errors import StoreUnavailableError
from storage.redis import library

_TIMEOUT_SECONDS = 2.0
_CONNECTIONS = 32  # a call that needs one more waits for its turn

UNREACHABLE = (redis.exceptions.ConnectionError, redis.exceptions.TimeoutError, redis.exceptions.BusyLoadingError)


class EmptyError(Exception):
    """Redis answers, but has lost what is asked of it, and is being refilled."""


def create_client(url: str, timeout: float = _TIMEOUT_SECONDS) -> Redis:
    """A client with its pool; nothing is connected yet. Raises StoreUnavailableError if the URL is not one."""
    try:
        pool = BlockingConnectionPool.from_url(
            url,
            protocol=2,  # answers in order, and nothing between them
            max_connections=_CONNECTIONS,
            timeout=timeout,
            socket_timeout=timeout,
            socket_connect_timeout=timeout,
            # A connection of the pool may have died meanwhile; a Redis that does not answer is not asked again.
            retry=Retry(NoBackoff(), 1, supported_errors=(redis.exceptions.ConnectionError,)),
        )
    except ValueError as error:
        raise StoreUnavailableError(f"SAMPLIT_REDIS_URL: {error}") from error
    return Redis.from_pool(pool)


async def prepare(client: Redis) -> None:
    """Check that this Redis may be relied on, and load the function library.

    Raises:
        StoreUnavailableError: it does not answer, could evict keys, or is too old for functions.
    """
    try:
        memory = await client.info("memory")
        policy = memory.get("maxmemory_policy", "noeviction")
        if policy != "noeviction":
            raise StoreUnavailableError(
                f"Redis at SAMPLIT_REDIS_URL may evict keys (maxmemory-policy is {policy}): "
                "users would change their variant. Set maxmemory-policy to noeviction"
            )
        await library.load(client)
    except redis.exceptions.RedisError as error:
        raise StoreUnavailableError(f"Redis does not answer at SAMPLIT_REDIS_URL: {error}") from error


async def read_hash(client: Redis, key: str) -> dict[bytes, bytes]:
    """All fields of a hash, as bytes."""
    return cast("dict[bytes, bytes]", await client.hgetall(key))


async def delete_all(client: Redis) -> None:
    """Delete every key that Samplit uses, and no other."""
    for pattern in ("samplit:*", "{s[0-9][0-9]}:*"):
        async for key in client.scan_iter(match=pattern, count=1000):
            await client.unlink(key)
