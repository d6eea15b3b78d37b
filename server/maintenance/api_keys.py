"""API keys: made, replaced by new ones, revoked, and published to the servers.

A machine without the secrets of the installation stores keys, and a worker publishes them within seconds.

A key is the text "samplit_ID_SECRET". Its owner sees the text once; only a hash of it is stored.
"""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256

from allocator.errors import InvalidFieldError
from allocator.printable import has_controls
from server.publishing.api_keys import publish_api_keys
from storage.encryption import Secrets
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
    return sha256(text.encode(errors="replace")).digest()


async def create(
    connection: Connection,
    redis: Client,
    secrets: Secrets | None,
    *,
    name: str,
    scopes: Sequence[str],
    lifetime: timedelta | None = None,
    actor: str,
    now: datetime,
) -> NewKey:
    """Make a key, store and publish it. lifetime: after it the key expires; None for never.

    Raises InvalidFieldError for a scope that is not in SCOPES, or a name with control characters.
    """
    if has_controls(name):
        raise InvalidFieldError.of("name", "must not contain control characters")
    unknown = [scope for scope in scopes if scope not in SCOPES]
    if unknown:
        raise InvalidFieldError.of("scope", f"must be one of {', '.join(SCOPES)}; is {unknown[0]!r}")
    key = new_key()
    await add(connection, redis, secrets, key, name=name, scopes=scopes, lifetime=lifetime, actor=actor, now=now)
    return key


async def add(
    connection: Connection,
    redis: Client,
    secrets: Secrets | None,
    key: NewKey,
    *,
    name: str,
    scopes: Sequence[str],
    lifetime: timedelta | None = None,
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
        expires_at=None if lifetime is None else now + lifetime,
        actor=actor,
        now=now,
    )
    await publish_api_keys(connection, redis, secrets)


async def rotate(
    connection: Connection,
    redis: Client,
    secrets: Secrets | None,
    key_id: str,
    *,
    grace: timedelta,
    lifetime: timedelta | None = None,
    actor: str,
    now: datetime,
) -> NewKey:
    """Make a key with the name and the scopes of another one, which expires after `grace`. Publish both.

    lifetime: of the new key; None for as long as the old one was made for. Raises InvalidFieldError if the old key does
    not work any more, or was replaced already.
    """
    key = new_key()
    async with connection.transaction():
        old = await stored_keys.get_locked(connection, key_id)
        if old is not None and old.replaced_by is not None:
            raise InvalidFieldError.of("key_id", f"the key {key_id} was replaced already, by {old.replaced_by}")
        if old is None or old.revoked_at is not None or (old.expires_at is not None and old.expires_at <= now):
            raise InvalidFieldError.of("key_id", f"there is no key {key_id!r} that works")
        if lifetime is None and old.expires_at is not None:
            lifetime = old.expires_at - old.created_at
        await stored_keys.insert(
            connection,
            key_id=key.key_id,
            name=old.name,
            secret_hash=key.secret_hash,
            scopes=old.scopes,
            expires_at=None if lifetime is None else now + lifetime,
            actor=actor,
            now=now,
        )
        ends_at = now + grace if old.expires_at is None else min(old.expires_at, now + grace)
        await stored_keys.replace(connection, old, key.key_id, expires_at=ends_at, actor=actor, now=now)
    await publish_api_keys(connection, redis, secrets)
    return key


async def revoke(
    connection: Connection, redis: Client, secrets: Secrets | None, key_id: str, *, actor: str, now: datetime
) -> bool:
    """Revoke a key for good, and publish those that are left. Return False if no open key has this id."""
    revoked = await stored_keys.revoke(connection, key_id, actor=actor, now=now)
    await publish_api_keys(connection, redis, secrets)
    return revoked
