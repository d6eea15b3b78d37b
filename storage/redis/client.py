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
_CONNECTIONS = 32  # when all are in use, a call waits for one
_CLUSTER = "+cluster"  # after the scheme of a URL

UNREACHABLE = (
    redis.exceptions.ConnectionError,
    redis.exceptions.TimeoutError,
    redis.exceptions.BusyLoadingError,
    redis.exceptions.ClusterDownError,
    redis.exceptions.RedisClusterException,  # no node of a cluster answers, or none has the slot
)


class EmptyError(Exception):
    """Redis answers, but has lost the data that a call needs, and is being refilled."""


def create_client(url: str, timeout: float = _TIMEOUT_SECONDS) -> Client:
    """Return a client that connects when it is used. redis+cluster:// is a cluster, named by one of its nodes.

    Raises StoreUnavailableError if the URL is not one.
    """
    scheme = urlsplit(url).scheme
    common = {
        "protocol": 2,  # replies come in order, with nothing between them
        "socket_timeout": timeout,
        "socket_connect_timeout": timeout,
        # Retried once, since an idle connection may have died. A Redis that does not answer in time is not retried.
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
    """Return all fields of a hash."""
    return cast("dict[bytes, bytes]", await client.hgetall(key))


async def delete_all(client: Client) -> None:
    """Delete every key that Samplit uses, and no other."""
    for pattern in ("samplit:*", "{s[0-9][0-9]}:*"):
        async for key in client.scan_iter(match=pattern, count=1000):
            await client.unlink(key)
