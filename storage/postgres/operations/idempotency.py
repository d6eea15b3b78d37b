"""Stored responses of admin writes by request_id, so that a retry gets the response of the first attempt."""

from datetime import datetime

from allocator.errors import RequestIdReusedError
from storage.postgres import locks
from storage.postgres.pool import Connection


async def recall(connection: Connection, request_id: str, fingerprint: bytes) -> bytes | None:
    """Return the response of an earlier attempt, None if there was none.

    The transaction holds the id until it ends, so that two attempts cannot race.

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
    """Store the response, in the transaction that it reports."""
    await connection.execute(
        "INSERT INTO admin_requests (request_id, fingerprint, response, created_at) VALUES ($1, $2, $3, $4)",
        request_id,
        fingerprint,
        response,
        now,
    )


async def forget(connection: Connection, before: datetime) -> None:
    """Delete responses that were stored before then."""
    await connection.execute("DELETE FROM admin_requests WHERE created_at < $1", before)
