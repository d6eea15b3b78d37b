"""Since when a segmentation serves, from what day evidence counts, and when it was last looked whether to change it."""

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
class AdaptationState:
    """Of one experiment.

    serves_since: None where it has been segmented so from its start. recommendation_id, expected: what the segmentation
    came from, and what was expected of all of it; None where people chose it. evidence_from: the first day that may
    speak for segmenting; None is the first of all. baseline_share_after: what the share will be from
    baseline_share_until on.
    """

    serves_since: datetime | None
    recommendation_id: uuid.UUID | None
    expected: Estimate | None
    evidence_from: date | None
    baseline_share_after: float | None
    baseline_share_until: datetime | None
    checked_at: datetime | None


async def state(connection: Connection, experiment_number: int) -> AdaptationState:
    """As it is. The experiment must be there."""
    row = await connection.fetchrow(_STATE, experiment_number)
    since, recommendation_id, lift, error, *rest = cast("asyncpg.Record", row)
    return AdaptationState(since, recommendation_id, None if lift is None else Estimate(lift, error), *rest)


async def note_check(connection: Connection, experiment_id: str, now: datetime) -> None:
    """It was looked at."""
    await connection.execute(
        "UPDATE experiment_segmentation_config c SET checked_at = $2 FROM experiments e"
        " WHERE e.experiment_no = c.experiment_no AND experiment_id = $1",
        experiment_id,
        now,
    )


async def due(connection: Connection, before: datetime, limit: int) -> list[str]:
    """The ids of running experiments that were not looked at since, the longest first."""
    return [row["experiment_id"] for row in await connection.fetch(_DUE, before, limit)]


async def plan_baseline(
    connection: Connection, experiment_number: int, share: float | None, until: datetime | None
) -> None:
    """What the baseline share will be from then on; None, None: it stays."""
    await connection.execute(
        "UPDATE experiment_segmentation_config SET baseline_share_after = $2, baseline_share_until = $3"
        " WHERE experiment_no = $1",
        experiment_number,
        share,
        until,
    )
