"""Whether everything is published. A Redis that has lost its data is not complete until a worker has refilled it."""

from storage.redis import keys
from storage.redis.client import Client


async def forget_all(client: Client) -> None:
    """Delete everything that was published, so that the worker publishes it again.

    The segment registries stay: they may be ahead of Postgres.
    """
    await client.delete(keys.PUBLISHED)
    for name in (keys.INDEX, keys.API_KEYS, keys.SEALED_API_KEYS):
        await client.delete(name)
    async for name in client.scan_iter(match=keys.experiment("*"), count=1_000):
        await client.delete(name)


async def forget_registries(client: Client) -> None:
    """Delete the segment registries: those of an older copy give numbers again that other segments have since."""
    async for name in client.scan_iter(match=keys.segments_of_all(), count=1_000):
        await client.delete(name)


async def set_complete(client: Client) -> None:
    """Say that everything is published: from now on, what is not found does not exist."""
    await client.set(keys.PUBLISHED, "1")


async def is_complete(client: Client) -> bool:
    """Return whether everything is published. It is not in a Redis that has lost its data."""
    return bool(await client.exists(keys.PUBLISHED))
