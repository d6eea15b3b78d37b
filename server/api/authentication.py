"""Authentication: API keys are checked against a copy in memory."""

import asyncio
import time
from collections.abc import Callable, Mapping
from contextvars import ContextVar

import structlog

from allocator.errors import KeyInvalidError, KeyMissingError, ScopeMissingError
from server.allocation.change_feed import ChangeFeed
from server.clock import Clock
from server.maintenance.api_keys import hash_key
from storage.encryption import Secrets
from storage.postgres.operations.api_keys import ActiveKey
from storage.redis import api_keys, completeness
from storage.redis.change_notices import ChangeNotice
from storage.redis.client import Client

log = structlog.get_logger()
caller: ContextVar[str] = ContextVar("caller")  # the id of the key of the call that is being answered
_SCHEME = "bearer"  # in any case (RFC 9110 §11.1)
_RELOAD_SECONDS = 1.0  # an unknown key makes the copy be read again, but no more often


class Authenticator:
    """Checks keys in memory. The copy is read again from Redis after a change notice, and at every poll interval."""

    def __init__(
        self, redis: Client, secrets: Secrets, changes: ChangeFeed, poll_interval: float, clock: Clock
    ) -> None:
        self._redis = redis
        self._secrets = secrets
        self._clock = clock
        self._poll_interval = poll_interval
        self._keys: Mapping[bytes, ActiveKey] = {}
        self._expired: set[bytes] = set()
        self._subscribers: list[Callable[[], None]] = []
        self._reloaded_at = float("-inf")
        changes.subscribe("keys", self._take)

    async def run(self) -> None:
        """Poll until cancelled, through outages of Redis."""
        while True:
            self._note_expired()
            try:
                await self.reload()
            except Exception as error:
                log.warning("cannot poll for API keys", error=repr(error))
            await asyncio.sleep(self._poll_interval)

    async def reload(self) -> None:
        """Read the published keys. A Redis that has lost its data changes nothing."""
        self._reloaded_at = time.monotonic()
        active = await api_keys.load(self._redis, self._secrets)
        if active != self._keys and (active or await completeness.is_complete(self._redis)):
            self._keys = active
            self._tell_subscribers()

    def on_change(self, subscriber: Callable[[], None]) -> None:
        """Call `subscriber` whenever a key was added, changed or revoked, or has expired."""
        self._subscribers.append(subscriber)

    def _note_expired(self) -> None:
        """Tell the subscribers if a key has expired since the last look: they may remember that it was accepted."""
        now = self._clock()
        expired = {secret_hash for secret_hash, key in self._keys.items() if key.has_expired(now)}
        if expired - self._expired:
            self._tell_subscribers()
        self._expired = expired

    def _tell_subscribers(self) -> None:
        for subscriber in self._subscribers:
            subscriber()

    async def _take(self, _: ChangeNotice) -> None:
        await self.reload()

    def authenticate_now(self, authorization: str | None, scope: str) -> ActiveKey | None:
        """Return the key in an "authorization" header, or None if the keys must be read again first.

        Raises KeyMissingError if it is no "Bearer KEY", KeyInvalidError, or ScopeMissingError if the key lacks `scope`.
        """
        kind, _, text = (authorization or "").strip().partition(" ")
        if kind.lower() != _SCHEME or not text:
            raise KeyMissingError('send the API key as metadata "authorization: Bearer KEY"')
        key = self._keys.get(hash_key(text.strip()))
        if key is None:
            if time.monotonic() - self._reloaded_at > _RELOAD_SECONDS:
                return None
            raise KeyInvalidError("this API key is unknown or revoked")
        if key.has_expired(self._clock()):
            raise KeyInvalidError("this API key has expired")
        if scope not in key.scopes:
            raise ScopeMissingError(f"this API key lacks the scope {scope!r}", required_scope=scope)
        return key

    async def authenticate(self, authorization: str | None, scope: str) -> ActiveKey:
        """Return the key in an "authorization" header. Raises as `authenticate_now`, and if Redis is out of reach."""
        while True:
            key = self.authenticate_now(authorization, scope)
            if key is not None:
                return key
            await self.reload()
