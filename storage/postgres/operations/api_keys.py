"""API keys. Only a hash of the secret is kept; who created or revoked a key is in the audit."""

from dataclasses import dataclass
from datetime import datetime

from storage.postgres.operations import audit
from storage.postgres.pool import Connection


@dataclass(frozen=True)
class ApiKey:
    """A key as people see it in a list."""

    key_id: str
    name: str
    scopes: tuple[str, ...]
    created_at: datetime
    revoked_at: datetime | None


@dataclass(frozen=True)
class ActiveKey:
    """What a server needs to recognise a caller."""

    key_id: str
    secret_hash: bytes
    scopes: tuple[str, ...]


async def insert(
    connection: Connection,
    *,
    key_id: str,
    name: str,
    secret_hash: bytes,
    scopes: tuple[str, ...],
    actor: str,
    now: datetime,
) -> None:
    """Store a key, unless one with the same id or secret is stored already."""
    async with connection.transaction():
        status = await connection.execute(
            """
            INSERT INTO api_keys (key_id, name, secret_hash, scopes, created_at) VALUES ($1, $2, $3, $4, $5)
            ON CONFLICT DO NOTHING
            """,
            key_id,
            name,
            secret_hash,
            scopes,
            now,
        )
        if status == "INSERT 0 1":
            created = {"key_id": key_id, "name": name, "scopes": scopes}
            await audit.record(connection, None, actor, "key.created", {}, created, now)


async def list_all(connection: Connection) -> list[ApiKey]:
    """Return every key, the oldest first, revoked ones too."""
    rows = await connection.fetch(
        "SELECT key_id, name, scopes, created_at, revoked_at FROM api_keys ORDER BY created_at, key_id"
    )
    return [ApiKey(r["key_id"], r["name"], tuple(r["scopes"]), r["created_at"], r["revoked_at"]) for r in rows]


async def active(connection: Connection) -> list[ActiveKey]:
    """Return the keys that are not revoked."""
    rows = await connection.fetch("SELECT key_id, secret_hash, scopes FROM api_keys WHERE revoked_at IS NULL")
    return [ActiveKey(r["key_id"], r["secret_hash"], tuple(r["scopes"])) for r in rows]


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
