"""Who calls, and what they may do: API keys, checked against a copy in memory."""

import secrets
import time
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from hashlib import sha256

from allocator.errors import KeyInvalidError, KeyMissingError, ScopeMissingError
from storage.postgres.operations.api_keys import ActiveKey
from storage.redis import api_keys, publications
from storage.redis.client import Client

SCOPES = ("allocate", "admin")
caller: ContextVar[str] = ContextVar("caller")  # the id of the key of the call that is being answered
_RELOAD_SECONDS = 1.0  # an unknown key makes the copy be read again, but no more often


@dataclass(frozen=True)
class NewKey:
    """A key as its owner gets it, once: `text` is never stored."""

    key_id: str
    text: str

    @property
    def secret_hash(self) -> bytes:
        """What is stored instead."""
        return hash_key(self.text)


def new_key() -> NewKey:
    """A random key: "samplit_ID_SECRET", 256 bits of secret."""
    key_id = secrets.token_hex(4)
    return NewKey(key_id, f"samplit_{key_id}_{secrets.token_urlsafe(32)}")


def hash_key(text: str) -> bytes:
    """SHA-256: enough, since the secret has full entropy."""
    return sha256(text.encode()).digest()


class Authenticator:
    """Checks keys in memory, and reads them again from Redis when they changed."""

    def __init__(self, client: Client) -> None:
        """Knows no key until `reload`."""
        self._client = client
        self._keys: Mapping[bytes, ActiveKey] = {}
        self._reloaded_at = float("-inf")

    async def reload(self) -> None:
        """Take over the published keys."""
        self._reloaded_at = time.monotonic()
        active = await api_keys.load(self._client)
        if active or await publications.is_complete(self._client):
            self._keys = active

    async def authenticate(self, authorization: str | None, scope: str) -> ActiveKey:
        """The key behind an "authorization" header. Raises KeyMissing-, KeyInvalid- or ScopeMissingError."""
        if authorization is None:
            raise KeyMissingError('send the API key as metadata "authorization: Bearer KEY"')
        secret_hash = hash_key(authorization.removeprefix("Bearer ").strip())
        key = self._keys.get(secret_hash)
        if key is None and time.monotonic() - self._reloaded_at > _RELOAD_SECONDS:
            await self.reload()
            key = self._keys.get(secret_hash)
        if key is None:
            raise KeyInvalidError("this API key is unknown or revoked")
        if scope not in key.scopes:
            raise ScopeMissingError(f"this API key lacks the scope {scope!r}", required_scope=scope)
        return key
