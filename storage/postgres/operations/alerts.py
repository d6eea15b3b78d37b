"""Alerts: raised once while there is a problem, resolved when there is none any more."""

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
Place = tuple[int | None, str]  # an experiment's number, None for the installation, and a key


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


@dataclass(frozen=True)
class Alert:
    """One alert. `number` is its place in lists; `experiment_id` is empty where it is the installation's."""

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
    """Raise an alert where there is a problem, resolve it where there is none; whether either is new."""
    if problem is None:
        return await resolve(connection, experiment_number, kind, key, now) is not None
    return bool(await connection.fetchval(_RAISE, experiment_number, kind.value, key, problem, now))


async def resolve(
    connection: Connection, experiment_number: int | None, kind: AlertKind, key: str, now: datetime
) -> str | None:
    """Close an alert; its summary, or None if it is not open."""
    summary: str | None = await connection.fetchval(_RESOLVE, experiment_number, kind.value, key, now)
    return summary


async def still_open(connection: Connection, kind: AlertKind) -> dict[Place, datetime]:
    """Where an alert of a kind is not resolved, and since when."""
    rows = await connection.fetch(
        "SELECT experiment_no, key, raised_at FROM alerts WHERE kind = $1 AND resolved_at IS NULL", kind.value
    )
    return {(row["experiment_no"], row["key"]): row["raised_at"] for row in rows}


async def list_page(
    connection: Connection, *, experiment_number: int | None, open_only: bool, before: int | None, limit: int
) -> list[Alert]:
    """Raised last first, those with a number below `before`; without an experiment all, the installation's too."""
    rows = await connection.fetch(_LIST, experiment_number, open_only, before, limit)
    return [_alert(row) for row in rows]


async def acknowledge(
    connection: Connection, alert_id: uuid.UUID, actor: str, now: datetime
) -> tuple[Alert, bool] | None:
    """The alert as whoever was first acknowledged it, and whether that is new; None if there is no such alert."""
    is_new = bool(await connection.fetchval(_ACKNOWLEDGE, alert_id, now, actor))
    rows = await connection.fetch(_GET, alert_id)
    return (_alert(rows[0]), is_new) if rows else None


def _alert(row: asyncpg.Record) -> Alert:
    number, alert_id, experiment_number, experiment_id, kind, *rest = row
    return Alert(number, alert_id, experiment_number, experiment_id, AlertKind(kind), *rest)
