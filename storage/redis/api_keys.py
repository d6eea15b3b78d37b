"""The active API keys in Redis, where servers read them, so that the data plane never waits for Postgres."""

from collections.abc import Sequence
from datetime import datetime

from storage.postgres.operations.api_keys import ActiveKey
from storage.redis import change_notices, keys
from storage.redis.client import Client, read_hash

_EXPIRES = "expires="


async def publish(client: Client, active: Sequence[ActiveKey]) -> None:
    """Replace the published keys, and tell the servers."""
    async with client.pipeline(transaction=True) as pipe:
        pipe.delete(keys.API_KEYS)
        for key in active:
            pipe.hset(keys.API_KEYS, key.secret_hash, _text(key))
        await pipe.execute()
    await change_notices.send(client, "keys")


async def load(client: Client) -> dict[bytes, ActiveKey]:
    """Return the published keys by secret hash."""
    active = {}
    for secret_hash, value in (await read_hash(client, keys.API_KEYS)).items():
        active[secret_hash] = _parse(secret_hash, value.decode())
    return active


def _text(key: ActiveKey) -> str:
    """Return "key_id scope scope", and "expires=TIME" after it if the key expires.

    A server of the release before takes the last word for one more scope, which opens nothing.
    """
    expiry = [] if key.expires_at is None else [f"{_EXPIRES}{key.expires_at.isoformat()}"]
    return " ".join([key.key_id, *key.scopes, *expiry])


def _parse(secret_hash: bytes, text: str) -> ActiveKey:
    key_id, *words = text.split(" ")
    scopes = tuple(word for word in words if not word.startswith(_EXPIRES))
    expiry = next((word.removeprefix(_EXPIRES) for word in words if word.startswith(_EXPIRES)), None)
    return ActiveKey(key_id, secret_hash, scopes, None if expiry is None else datetime.fromisoformat(expiry))
