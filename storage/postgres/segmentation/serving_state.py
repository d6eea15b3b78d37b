"""When the serving segmentation began, from what day evidence counts, and when it was last checked for changes."""

import uuid
from dataclasses import dataclass
from datetime import date, datetime
from typing import cast

import asyncpg

from allocator.estimates import Estimate
from storage.postgres.pool import Connection

_STATE = """
    SELECT serves_since, recommendation_id, expected_lift, expected_error, evidence_from, baseline_share_after,
        baseline_share_until, checked_at
    FROM experiment_segmentation_config WHERE experiment_no = $1
"""
_DUE = """
    SELECT experiment_id FROM experiments JOIN experiment_segmentation_config USING (experiment_no)
    WHERE state = 'RUNNING' AND (checked_at IS NULL OR checked_at < $1) ORDER BY checked_at NULLS FIRST, experiment_no
    LIMIT $2
"""


@dataclass(frozen=True)
class ServingState:
    """What is known of an experiment's segmentation that serves.

    serves_since: None if it has served since the experiment was started. recommendation_id, expected: the
    recommendation that it came from, and the lift that was expected of the segmentation as a whole; None if people
    chose it. evidence_from: the first day whose users count as evidence for segmenting; None is the first day of all.
    baseline_share_after: what the baseline share will be from baseline_share_until on.
    """

    serves_since: datetime | None
    recommendation_id: uuid.UUID | None
    expected: Estimate | None
    evidence_from: date | None
    baseline_share_after: float | None
    baseline_share_until: datetime | None
    checked_at: datetime | None


async def state(connection: Connection, experiment_number: int) -> ServingState:
    """Return the state of an experiment, which must exist."""
    row = cast("asyncpg.Record", await connection.fetchrow(_STATE, experiment_number))
    lift = row["expected_lift"]
    return ServingState(
        serves_since=row["serves_since"],
        recommendation_id=row["recommendation_id"],
        expected=None if lift is None else Estimate(lift, row["expected_error"]),
        evidence_from=row["evidence_from"],
        baseline_share_after=row["baseline_share_after"],
        baseline_share_until=row["baseline_share_until"],
        checked_at=row["checked_at"],
    )


async def note_check(connection: Connection, experiment_id: str, now: datetime) -> None:
    """Note that an experiment was checked."""
    await connection.execute(
        "UPDATE experiment_segmentation_config c SET checked_at = $2 FROM experiments e"
        " WHERE e.experiment_no = c.experiment_no AND experiment_id = $1",
        experiment_id,
        now,
    )


async def due(connection: Connection, before: datetime, limit: int) -> list[str]:
    """Return the ids of running experiments that were not checked since then, the longest ago first."""
    return [row["experiment_id"] for row in await connection.fetch(_DUE, before, limit)]


async def plan_baseline(
    connection: Connection, experiment_number: int, share: float | None, until: datetime | None
) -> None:
    """Store what the baseline share will be from `until` on; with None for both, it stays as it is."""
    await connection.execute(
        "UPDATE experiment_segmentation_config SET baseline_share_after = $2, baseline_share_until = $3"
        " WHERE experiment_no = $1",
        experiment_number,
        share,
        until,
    )
