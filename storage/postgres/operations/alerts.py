"""Alerts: one is raised for a problem, and is open until the problem is over and the alert is resolved."""

import uuid
from dataclasses import dataclass
from datetime import datetime
from enum import Enum

import asyncpg

from storage.postgres.pool import Connection

_RAISE = """
    INSERT INTO alerts (experiment_no, kind, key, summary, raised_at) VALUES ($1, $2, $3, $4, $5)
    ON CONFLICT (experiment_no, kind, key) WHERE resolved_at IS NULL DO NOTHING RETURNING true
"""
_RESOLVE = """
    UPDATE alerts SET resolved_at = $4
    WHERE experiment_no IS NOT DISTINCT FROM $1 AND kind = $2 AND key = $3 AND resolved_at IS NULL
    RETURNING summary
"""
_ALERTS = """
    SELECT alert_no, alert_id, experiment_no, coalesce(experiment_id, '') AS experiment_id, kind, key, summary,
        raised_at, resolved_at, acknowledged_at, coalesce(acknowledged_by, '') AS acknowledged_by
    FROM alerts LEFT JOIN experiments USING (experiment_no)
"""
_GET = _ALERTS + " WHERE alert_id = $1"
_LIST = _ALERTS + (
    " WHERE ($1::int IS NULL OR experiment_no = $1) AND (resolved_at IS NULL OR NOT $2)"
    " AND ($3::bigint IS NULL OR alert_no < $3) ORDER BY alert_no DESC LIMIT $4"
)
_ACKNOWLEDGE = """
    UPDATE alerts SET acknowledged_at = $2, acknowledged_by = $3
    WHERE alert_id = $1 AND acknowledged_at IS NULL RETURNING true
"""
AlertTarget = tuple[int | None, str]  # an experiment's number, None for the installation, and a key


class AlertKind(Enum):
    """What is wrong. The names are those of samplit.admin.v1.AlertKind."""

    SEGMENT_UNDERPERFORMS = "SEGMENT_UNDERPERFORMS"
    CLUSTER_MODEL_OLD = "CLUSTER_MODEL_OLD"
    SAMPLE_RATIO_MISMATCH = "SAMPLE_RATIO_MISMATCH"
    DRAIN_LAG = "DRAIN_LAG"
    BOT_SURGE = "BOT_SURGE"
    CONVERSIONS_STOPPED = "CONVERSIONS_STOPPED"
    AUTO_ACTIVATION_FAILED = "AUTO_ACTIVATION_FAILED"
    NOTIFICATION_FAILED = "NOTIFICATION_FAILED"
    VOLATILE_REDIS = "VOLATILE_REDIS"
    EXPERIMENT_FAILS = "EXPERIMENT_FAILS"


@dataclass(frozen=True)
class Alert:
    """One alert. `number` is its position in lists; `experiment_id` is empty where the alert is the installation's."""

    number: int
    alert_id: uuid.UUID
    experiment_number: int | None
    experiment_id: str
    kind: AlertKind
    key: str
    summary: str
    raised_at: datetime
    resolved_at: datetime | None
    acknowledged_at: datetime | None
    acknowledged_by: str


async def report(
    connection: Connection,
    experiment_number: int | None,
    kind: AlertKind,
    key: str,
    problem: str | None,
    now: datetime,
) -> bool:
    """Raise an alert if there is a problem, resolve it if there is none. Returns whether that changed anything."""
    if problem is None:
        return await resolve(connection, experiment_number, kind, key, now) is not None
    return bool(await connection.fetchval(_RAISE, experiment_number, kind.value, key, problem, now))


async def resolve(
    connection: Connection, experiment_number: int | None, kind: AlertKind, key: str, now: datetime
) -> str | None:
    """Resolve an alert. Returns its summary, or None if it was not open."""
    summary: str | None = await connection.fetchval(_RESOLVE, experiment_number, kind.value, key, now)
    return summary


async def still_open(connection: Connection, kind: AlertKind) -> dict[AlertTarget, datetime]:
    """Return the targets with an open alert of a kind, and when each was raised."""
    rows = await connection.fetch(
        "SELECT experiment_no, key, raised_at FROM alerts WHERE kind = $1 AND resolved_at IS NULL", kind.value
    )
    return {(row["experiment_no"], row["key"]): row["raised_at"] for row in rows}


async def open_faults(connection: Connection, kind: AlertKind) -> set[tuple[str, str]]:
    """Return the experiment id and the key of each open alert of a kind."""
    rows = await connection.fetch(
        "SELECT experiment_id, key FROM alerts JOIN experiments USING (experiment_no)"
        " WHERE kind = $1 AND resolved_at IS NULL",
        kind.value,
    )
    return {(row["experiment_id"], row["key"]) for row in rows}


async def list_page(
    connection: Connection, *, experiment_number: int | None, open_only: bool, before: int | None, limit: int
) -> list[Alert]:
    """Return the newest alerts with a number below `before`; without an experiment all, the installation's too."""
    rows = await connection.fetch(_LIST, experiment_number, open_only, before, limit)
    return [_alert(row) for row in rows]


async def acknowledge(
    connection: Connection, alert_id: uuid.UUID, actor: str, now: datetime
) -> tuple[Alert, bool] | None:
    """Acknowledge an alert, unless it is acknowledged already: the first person stays.

    Returns the alert, and whether that changed anything; None if there is no such alert.
    """
    is_new = bool(await connection.fetchval(_ACKNOWLEDGE, alert_id, now, actor))
    row = await connection.fetchrow(_GET, alert_id)
    return None if row is None else (_alert(row), is_new)


def _alert(row: asyncpg.Record) -> Alert:
    return Alert(
        number=row["alert_no"],
        alert_id=row["alert_id"],
        experiment_number=row["experiment_no"],
        experiment_id=row["experiment_id"],
        kind=AlertKind(row["kind"]),
        key=row["key"],
        summary=row["summary"],
        raised_at=row["raised_at"],
        resolved_at=row["resolved_at"],
        acknowledged_at=row["acknowledged_at"],
        acknowledged_by=row["acknowledged_by"],
    )
