"""The audit: who changed what, and when. Postgres refuses to change or delete an event."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from storage.postgres.pool import Connection

SAMPLIT = "samplit"  # the actor of what Samplit does by itself
_LIST = """
    SELECT event_no AS number, at, actor, coalesce(k.name, '') AS actor_name, action,
        coalesce(experiment_id, '') AS experiment_id, before, after
    FROM audit_events LEFT JOIN experiments USING (experiment_no) LEFT JOIN api_keys k ON k.key_id = actor
    WHERE ($1::int IS NULL OR experiment_no = $1) AND ($2 = '' OR actor = $2) AND starts_with(action, $3)
        AND ($4::timestamptz IS NULL OR at >= $4) AND ($5::timestamptz IS NULL OR at < $5)
        AND ($6::bigint IS NULL OR event_no < $6)
    ORDER BY event_no DESC LIMIT $7
"""


@dataclass(frozen=True)
class AuditEvent:
    """A change. `before` and `after` have what differs; `experiment_id` is empty if the whole installation changed.

    `actor_name` is the name of the API key that `actor` names, and empty if it names none.
    """

    number: int
    at: datetime
    actor: str
    actor_name: str
    action: str
    experiment_id: str
    before: dict[str, Any]
    after: dict[str, Any]


@dataclass(frozen=True)
class AuditFilter:
    """Selects events: of an experiment, by an actor, whose action begins with `action`, from `since` to before `until`.

    None or an empty text selects all.
    """

    experiment_number: int | None
    actor: str
    action: str
    since: datetime | None
    until: datetime | None


async def record(
    connection: Connection,
    experiment_number: int | None,
    actor: str,
    action: str,
    before: dict[str, Any],
    after: dict[str, Any],
    now: datetime,
) -> None:
    """Record an event, in the transaction of the change. Without an experiment the whole installation changed."""
    await connection.execute(
        "INSERT INTO audit_events (at, actor, action, experiment_no, before, after) VALUES ($1, $2, $3, $4, $5, $6)",
        now,
        actor,
        action,
        experiment_number,
        before,
        after,
    )


async def list_page(connection: Connection, wanted: AuditFilter, *, before: int | None, limit: int) -> list[AuditEvent]:
    """Return the newest events with a number below `before`."""
    rows = await connection.fetch(
        _LIST,
        wanted.experiment_number,
        wanted.actor,
        wanted.action,
        wanted.since,
        wanted.until,
        before,
        limit,
    )
    return [AuditEvent(**row) for row in rows]
