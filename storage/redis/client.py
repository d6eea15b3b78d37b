"""The client of Redis, or of a Redis Cluster: everything but the hot path goes through it."""

from typing import TypeAlias, cast
from urllib.parse import urlsplit

import redis.exceptions
from redis.asyncio import BlockingConnectionPool, Redis, RedisCluster
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import OutOfMemoryError as OutOfMemoryError

from allocator.errors import StoreUnavailableError

Client: TypeAlias = Redis | RedisCluster

_TIMEOUT_SECONDS = 2.0
_CONNECTIONS = 32  # a call that needs one more waits for its turn
_CLUSTER = "+cluster"  # after the scheme of a URL

UNREACHABLE = (
    redis.exceptions.ConnectionError,
    redis.exceptions.TimeoutError,
    redis.exceptions.BusyLoadingError,
    redis.exceptions.ClusterDownError,
    redis.exceptions.RedisClusterException,  # no node of a cluster answers, or none has the slot
)


class EmptyError(Exception):
    """Redis answers, but has lost what is asked of it, and is being refilled."""


def create_client(url: str, timeout: float = _TIMEOUT_SECONDS) -> Client:
    """A client with its connections; nothing is connected yet. redis+cluster:// is a cluster, by one of its nodes.

    Raises StoreUnavailableError if the URL is not one.
    """
    scheme = urlsplit(url).scheme
    common = {
        "protocol": 2,  # answers in order, and nothing between them
        "socket_timeout": timeout,
        "socket_connect_timeout": timeout,
        # A connection may have died meanwhile; a Redis that does not answer is not asked again.
        "retry": Retry(NoBackoff(), 1, supported_errors=(redis.exceptions.ConnectionError,)),
    }
    try:
        if scheme.endswith(_CLUSTER):
            return RedisCluster.from_url(url.replace(_CLUSTER, "", 1), **common)
        pool = BlockingConnectionPool.from_url(url, max_connections=_CONNECTIONS, timeout=timeout, **common)
    except (ValueError, redis.exceptions.RedisClusterException) as error:
        raise StoreUnavailableError(f"SAMPLIT_REDIS_URL: {error}") from error
    return Redis.from_pool(pool)


async def read_hash(client: Client, key: str) -> dict[bytes, bytes]:
    """All fields of a hash, as bytes."""
    return cast("dict[bytes, bytes]", await client.hgetall(key))


async def delete_all(client: Client) -> None:
    """Delete every key that Samplit uses, and no other."""
    for pattern in ("samplit:*", "{s[0-9][0-9]}:*"):
        async for key in client.scan_iter(match=pattern, count=1000):
            await client.unlink(key)
