"""Who changed what, when. Postgres itself refuses to change an event, or to delete one."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from storage.postgres.pool import Connection

SAMPLIT = "samplit"  # the actor of what Samplit does by itself
_LIST = """
    SELECT event_no, at, actor, action, coalesce(experiment_id, ''), before, after
    FROM audit_events LEFT JOIN experiments USING (experiment_no)
    WHERE ($1::int IS NULL OR experiment_no = $1) AND ($2 = '' OR actor = $2) AND starts_with(action, $3)
        AND ($4::timestamptz IS NULL OR at >= $4) AND ($5::timestamptz IS NULL OR at < $5)
        AND ($6::bigint IS NULL OR event_no < $6)
    ORDER BY event_no DESC LIMIT $7
"""


@dataclass(frozen=True)
class AuditEvent:
    """A change. `before` and `after` have what differs; `experiment_id` is empty where it is the installation's."""

    number: int
    at: datetime
    actor: str
    action: str
    experiment_id: str
    before: dict[str, Any]
    after: dict[str, Any]


@dataclass(frozen=True)
class AuditFilter:
    """Which events: of an experiment, by an actor, whose action begins so, from a time to before another.

    None, or an empty text, is any.
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
    """Keep an event, in the transaction that made it true. Without an experiment it is the installation's."""
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
    """Newest first, those with a number below `before`."""
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
    return [AuditEvent(*row) for row in rows]
