"""API keys. Only a hash of the secret is kept; who made or closed a key is in the audit."""

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
    """What a server needs to know a caller by."""

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
    """Store a key; one with the same hash is left as it is."""
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
            made = {"key_id": key_id, "name": name, "scopes": scopes}
            await audit.record(connection, None, actor, "key.created", {}, made, now)


async def list_all(connection: Connection) -> list[ApiKey]:
    """Every key, oldest first, revoked ones too."""
    rows = await connection.fetch(
        "SELECT key_id, name, scopes, created_at, revoked_at FROM api_keys ORDER BY created_at, key_id"
    )
    return [ApiKey(r["key_id"], r["name"], tuple(r["scopes"]), r["created_at"], r["revoked_at"]) for r in rows]


async def active(connection: Connection) -> list[ActiveKey]:
    """The keys that open anything."""
    rows = await connection.fetch("SELECT key_id, secret_hash, scopes FROM api_keys WHERE revoked_at IS NULL")
    return [ActiveKey(r["key_id"], r["secret_hash"], tuple(r["scopes"])) for r in rows]


async def revoke(connection: Connection, key_id: str, *, actor: str, now: datetime) -> bool:
    """Close a key for good; whether there was an open one."""
    async with connection.transaction():
        closed = await connection.fetchrow(
            """
            UPDATE api_keys SET revoked_at = $2 WHERE key_id = $1 AND revoked_at IS NULL
            RETURNING key_id, name, scopes
            """,
            key_id,
            now,
        )
        if closed is not None:
            await audit.record(connection, None, actor, "key.revoked", dict(closed), {}, now)
    return closed is not None
