"""The active API keys in Redis, where servers read them, so that the data plane never waits for Postgres."""

from collections.abc import Sequence

from storage.postgres.operations.api_keys import ActiveKey
from storage.redis import change_notices, keys
from storage.redis.client import Client, read_hash


async def publish(client: Client, active: Sequence[ActiveKey]) -> None:
    """Replace the published keys, and tell the servers."""
    async with client.pipeline(transaction=True) as pipe:
        pipe.delete(keys.API_KEYS)
        for key in active:
            pipe.hset(keys.API_KEYS, key.secret_hash, " ".join([key.key_id, *key.scopes]))
        await pipe.execute()
    await change_notices.send(client, "keys")


async def load(client: Client) -> dict[bytes, ActiveKey]:
    """Return the published keys by secret hash."""
    active = {}
    for secret_hash, value in (await read_hash(client, keys.API_KEYS)).items():
        key_id, *scopes = value.decode().split(" ")
        active[secret_hash] = ActiveKey(key_id, secret_hash, tuple(scopes))
    return active
