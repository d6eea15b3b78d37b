"""What a past decision rested on: its row of the log, and the counts that its posterior version knew."""

from dataclasses import dataclass
from datetime import datetime

from allocator.decision import Decision
from allocator.experiment import Group, Reason
from allocator.posterior.effective_trials import Count
from allocator.redecide import LoggedDecision
from storage.postgres.counts.counts import count_of
from storage.postgres.pool import Connection

# A segment without a key of its own is "other".
_FIND = """
    SELECT a.*, e.maturity_from, is_success(a.assigned_at, a.converted_at, e.maturity_seconds) AS is_success,
        coalesce(answered.segment_key, 'other') AS segment_key, coalesce(credited.segment_key, 'other') AS credited_key
    FROM assignments a JOIN experiments e USING (experiment_no)
        JOIN experiment_segmentation_config serving USING (experiment_no)
        LEFT JOIN experiment_segments answered ON answered.experiment_no = a.experiment_no
            AND answered.segmentation_version = a.segmentation_version AND answered.segment_no = a.segment_no
        LEFT JOIN experiment_segments credited ON credited.experiment_no = a.experiment_no
            AND credited.segmentation_version = serving.segmentation_version
            AND credited.segment_no = (a.cells ->> serving.segmentation_version::text)::int
    WHERE a.experiment_no = $1 AND a.user_key = $2
"""
_COUNTS = """
    SELECT (cells ->> $2)::int AS segment_no, variant_no, day, count(*) AS trials,
        count(*) FILTER (WHERE converted_version <= $3) AS successes
    FROM assignments WHERE experiment_no = $1 AND cells ? $2 AND counted_version <= $3
    GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
"""


@dataclass(frozen=True)
class LoggedAssignment:
    """A stored assignment.

    segment_key: as it was answered. credited_key: where it counts in the segmentation that serves.
    maturity_from: the first posterior version that was made under the experiment's present maturity.
    """

    logged: LoggedDecision
    segment_key: str
    credited_key: str
    context: dict[str, str]
    assigned_at: datetime
    converted_at: datetime | None
    is_success: bool
    maturity_from: int


async def find(connection: Connection, experiment_number: int, user_key: bytes) -> LoggedAssignment | None:
    """Return the stored assignment of a user; None if there is none."""
    row = await connection.fetchrow(_FIND, experiment_number, user_key)
    if row is None:
        return None
    decision = Decision(
        variant=row["variant_no"],
        reason=Reason[row["reason"]],
        group=Group[row["allocation_group"]],
        propensity=row["propensity"],
        marginal=row["marginal_propensity"],
        q_segment=row["q_segment"],
        q_global=row["q_global"],
    )
    return LoggedAssignment(
        logged=LoggedDecision(
            user_key=row["user_key"],
            segment=row["segment_no"],
            segmentation_version=row["segmentation_version"],
            posterior_version=row["posterior_version"],
            revision=row["revision"],
            decision=decision,
        ),
        segment_key=row["segment_key"],
        credited_key=row["credited_key"],
        context=row["context"],
        assigned_at=row["assigned_at"],
        converted_at=row["converted_at"],
        is_success=row["is_success"],
        maturity_from=row["maturity_from"],
    )


async def counts_as_of(
    connection: Connection, experiment_number: int, segmentation_version: int, posterior_version: int
) -> list[Count]:
    """Return the counts of a segmentation by day, as a posterior version knew them, in one pass over the log.

    They hold for the versions that were made under the present maturity.
    """
    rows = await connection.fetch(_COUNTS, experiment_number, str(segmentation_version), posterior_version)
    return [count_of(row) for row in rows]
