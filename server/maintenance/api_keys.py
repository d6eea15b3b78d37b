"""API keys: made, revoked, and published to the servers.

A key is the text "samplit_ID_SECRET". Its owner sees the text once; only a hash of it is stored.
"""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256

from allocator.errors import InvalidFieldError
from server.publishing.api_keys import publish_api_keys
from storage.postgres.operations import api_keys as stored_keys
from storage.postgres.pool import Connection
from storage.redis.client import Client

SCOPES = ("allocate", "admin")


@dataclass(frozen=True)
class NewKey:
    """A key as its owner gets it, once: `text` is never stored."""

    key_id: str
    text: str

    def __repr__(self) -> str:
        """Without the secret."""
        return f"NewKey({self.key_id})"

    @property
    def secret_hash(self) -> bytes:
        """What is stored instead of the text."""
        return hash_key(self.text)


def new_key() -> NewKey:
    """Make a random key with 256 bits of secret. It opens nothing until it is stored."""
    key_id = secrets.token_hex(4)
    return NewKey(key_id, f"samplit_{key_id}_{secrets.token_urlsafe(32)}")


def read_key(text: str) -> NewKey:
    """Return the key whose text was kept in a file. Raises ValueError if it is not "samplit_ID_SECRET"."""
    _, key_id, _ = text.split("_", maxsplit=2)
    return NewKey(key_id, text)


def hash_key(text: str) -> bytes:
    """Return the SHA-256 of a key, which is enough: the secret has full entropy, so nobody can guess it."""
    return sha256(text.encode()).digest()


async def create(
    connection: Connection, redis: Client, *, name: str, scopes: Sequence[str], actor: str, now: datetime
) -> NewKey:
    """Make a key, store and publish it. Raises InvalidFieldError for a scope that is not in SCOPES."""
    unknown = [scope for scope in scopes if scope not in SCOPES]
    if unknown:
        raise InvalidFieldError.of("scope", f"must be one of {', '.join(SCOPES)}; is {unknown[0]!r}")
    key = new_key()
    await add(connection, redis, key, name=name, scopes=scopes, actor=actor, now=now)
    return key


async def add(
    connection: Connection,
    redis: Client,
    key: NewKey,
    *,
    name: str,
    scopes: Sequence[str],
    actor: str,
    now: datetime,
) -> None:
    """Store a key and publish it. A key that is stored already stays as it is, so this can be repeated."""
    await stored_keys.insert(
        connection,
        key_id=key.key_id,
        name=name,
        secret_hash=key.secret_hash,
        scopes=tuple(scopes),
        actor=actor,
        now=now,
    )
    await publish_api_keys(connection, redis)


async def revoke(connection: Connection, redis: Client, key_id: str, *, actor: str, now: datetime) -> bool:
    """Revoke a key for good, and publish those that are left. Return False if no open key has this id."""
    revoked = await stored_keys.revoke(connection, key_id, actor=actor, now=now)
    await publish_api_keys(connection, redis)
    return revoked
