"""Fills Redis again with what Postgres knows, for an operator who does not trust what Redis holds."""

import asyncio

from storage.redis import completeness, streams
from storage.redis.client import Client

_POLL_SECONDS = 0.1


async def rebuild(redis: Client, shards: int) -> None:
    """Forget what was published and close every shard; return once a worker has refilled and opened all of them.

    The worker stores the events that wait in the streams first. Until a shard is open again, users whom Postgres knows
    keep their variant, and others get what their experiment says of outages. Without a running worker this never ends.
    """
    await completeness.forget_all(redis)
    for shard in range(shards):
        await streams.close_shard(redis, shard)
    while None in await streams.epochs(redis, shards):  # noqa: ASYNC110 (the worker writes an epoch when it opens one)
        await asyncio.sleep(_POLL_SECONDS)
