"""Answers of admin writes by request_id, so that a retry answers as the first attempt did."""

from datetime import datetime

from allocator.errors import RequestIdReusedError
from storage.postgres import locks
from storage.postgres.pool import Connection


async def recall(connection: Connection, request_id: str, fingerprint: bytes) -> bytes | None:
    """The response of an earlier attempt. Holds the id until the transaction ends, so that two cannot race.

    Raises RequestIdReusedError if the id belongs to a different request.
    """
    await locks.hold_request_id(connection, request_id)
    row = await connection.fetchrow(
        "SELECT fingerprint, response FROM admin_requests WHERE request_id = $1", request_id
    )
    if row is None:
        return None
    if row["fingerprint"] != fingerprint:
        raise RequestIdReusedError(f"request_id {request_id!r} was used by a different request")
    response: bytes = row["response"]
    return response


async def remember(connection: Connection, request_id: str, fingerprint: bytes, response: bytes, now: datetime) -> None:
    """Keep the response, in the transaction that made it true."""
    await connection.execute(
        "INSERT INTO admin_requests (request_id, fingerprint, response, created_at) VALUES ($1, $2, $3, $4)",
        request_id,
        fingerprint,
        response,
        now,
    )


async def forget(connection: Connection, before: datetime) -> None:
    """Drop what is older."""
    await connection.execute("DELETE FROM admin_requests WHERE created_at < $1", before)
