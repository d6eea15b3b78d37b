"""API keys. Only a hash of the secret is kept; who created or revoked a key is in the audit."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import asyncpg

from storage.postgres.operations import audit
from storage.postgres.pool import Connection

_KEYS = "SELECT key_id, name, scopes, created_at, expires_at, revoked_at, replaced_by FROM api_keys"
_LIST = _KEYS + " ORDER BY created_at, key_id"
_GET = _KEYS + " WHERE key_id = $1 FOR UPDATE"


@dataclass(frozen=True)
class ApiKey:
    """A key as people see it in a list. `replaced_by` is the id of the key that was made in its stead."""

    key_id: str
    name: str
    scopes: tuple[str, ...]
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    replaced_by: str | None


@dataclass(frozen=True)
class ActiveKey:
    """What a server needs to recognise a caller."""

    key_id: str
    secret_hash: bytes = field(repr=False)
    scopes: tuple[str, ...]
    expires_at: datetime | None = None

    def has_expired(self, now: datetime) -> bool:
        """Return whether the key opens nothing any more."""
        return self.expires_at is not None and self.expires_at <= now


async def insert(
    connection: Connection,
    *,
    key_id: str,
    name: str,
    secret_hash: bytes,
    scopes: tuple[str, ...],
    expires_at: datetime | None = None,
    actor: str,
    now: datetime,
) -> None:
    """Store a key, unless one with the same id or secret is stored already. expires_at: None for never."""
    async with connection.transaction():
        status = await connection.execute(
            """
            INSERT INTO api_keys (key_id, name, secret_hash, scopes, created_at, expires_at)
            VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING
            """,
            key_id,
            name,
            secret_hash,
            scopes,
            now,
            expires_at,
        )
        if status == "INSERT 0 1":
            created: dict[str, Any] = {"key_id": key_id, "name": name, "scopes": scopes}
            if expires_at is not None:
                created["expires_at"] = expires_at.isoformat()
            await audit.record(connection, None, actor, "key.created", {}, created, now)


async def list_all(connection: Connection) -> list[ApiKey]:
    """Return every key, the oldest first, revoked ones too."""
    return [_key(row) for row in await connection.fetch(_LIST)]


async def get_locked(connection: Connection, key_id: str) -> ApiKey | None:
    """Return a key, or None, and keep others from changing it until the transaction ends."""
    row = await connection.fetchrow(_GET, key_id)
    return None if row is None else _key(row)


async def active(connection: Connection) -> list[ActiveKey]:
    """Return the keys that are not revoked, also those that have expired: servers look at the time themselves."""
    rows = await connection.fetch(
        "SELECT key_id, secret_hash, scopes, expires_at FROM api_keys WHERE revoked_at IS NULL"
    )
    return [ActiveKey(r["key_id"], r["secret_hash"], tuple(r["scopes"]), r["expires_at"]) for r in rows]


async def replace(
    connection: Connection, old: ApiKey, new_key_id: str, *, expires_at: datetime, actor: str, now: datetime
) -> None:
    """Note that another key replaces this one, which expires soon. Call it in the transaction that locked the key."""
    await connection.execute(
        "UPDATE api_keys SET replaced_by = $2, expires_at = $3 WHERE key_id = $1", old.key_id, new_key_id, expires_at
    )
    before: dict[str, Any] = {"key_id": old.key_id, "name": old.name, "scopes": old.scopes}
    if old.expires_at is not None:
        before["expires_at"] = old.expires_at.isoformat()
    after = before | {"replaced_by": new_key_id, "expires_at": expires_at.isoformat()}
    await audit.record(connection, None, actor, "key.rotated", before, after, now)


async def revoke(connection: Connection, key_id: str, *, actor: str, now: datetime) -> bool:
    """Revoke a key for good. Returns whether there was an active one."""
    async with connection.transaction():
        revoked = await connection.fetchrow(
            """
            UPDATE api_keys SET revoked_at = $2 WHERE key_id = $1 AND revoked_at IS NULL
            RETURNING key_id, name, scopes
            """,
            key_id,
            now,
        )
        if revoked is not None:
            await audit.record(connection, None, actor, "key.revoked", dict(revoked), {}, now)
    return revoked is not None


def _key(row: asyncpg.Record) -> ApiKey:
    return ApiKey(
        row["key_id"],
        row["name"],
        tuple(row["scopes"]),
        row["created_at"],
        row["expires_at"],
        row["revoked_at"],
        row["replaced_by"],
    )
