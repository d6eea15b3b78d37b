"""The active API keys in Redis, where servers read them, so that the data plane never waits for Postgres.

They are written in two forms for one release: as text, which servers of the release before read, and encrypted. Only
the encrypted ones are believed: who can write to Redis cannot make a key.
"""

from collections.abc import Sequence
from datetime import datetime

import structlog

from storage.encryption import DecryptionError, Secrets
from storage.postgres.operations.api_keys import ActiveKey
from storage.redis import change_notices, keys
from storage.redis.client import Client, read_hash

log = structlog.get_logger()
_EXPIRES = "expires="


async def publish(client: Client, secrets: Secrets, active: Sequence[ActiveKey]) -> None:
    """Replace the published keys, and tell the servers."""
    forms = (
        (keys.API_KEYS, {key.secret_hash: _text(key).encode() for key in active}),
        (keys.SEALED_API_KEYS, {key.secret_hash: _seal(secrets, key) for key in active}),
    )
    for name, fields in forms:  # each in a transaction of its own: in a cluster they are in different slots
        async with client.pipeline(transaction=True) as pipe:
            pipe.delete(name)
            for secret_hash, value in fields.items():
                pipe.hset(name, secret_hash, value)
            await pipe.execute()
    await change_notices.send(client, "keys")


async def are_published(client: Client, secrets: Secrets, active: Sequence[ActiveKey]) -> bool:
    """Return whether exactly these keys are published in both forms, encrypted with the primary key of the keyset."""
    wanted = {key.secret_hash for key in active}
    fields = await read_hash(client, keys.SEALED_API_KEYS)
    if fields.keys() != wanted or any(map(secrets.is_outdated, fields.values())):
        return False
    if (await read_hash(client, keys.API_KEYS)).keys() != wanted:
        return False
    try:
        return all(_open(secrets, key.secret_hash, fields[key.secret_hash]) == key for key in active)
    except DecryptionError:
        return False


async def load(client: Client, secrets: Secrets) -> dict[bytes, ActiveKey]:
    """Return the published keys by secret hash. Those that this installation has not made are left out."""
    active = {}
    forged = 0
    for secret_hash, sealed in (await read_hash(client, keys.SEALED_API_KEYS)).items():
        try:
            active[secret_hash] = _open(secrets, secret_hash, sealed)
        except DecryptionError:
            forged += 1
    if forged:
        log.error("Redis has API keys that this installation has not published: they open nothing", keys=forged)
    return active


def _seal(secrets: Secrets, key: ActiveKey) -> bytes:
    return secrets.encrypt(_text(key).encode(), _associated_data(key.secret_hash))


def _open(secrets: Secrets, secret_hash: bytes, sealed: bytes) -> ActiveKey:
    """Raises DecryptionError."""
    return _parse(secret_hash, secrets.decrypt(sealed, _associated_data(secret_hash)).decode())


def _associated_data(secret_hash: bytes) -> bytes:
    """Return what binds a ciphertext to the key that it lets in."""
    return b"api-key/" + secret_hash


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
