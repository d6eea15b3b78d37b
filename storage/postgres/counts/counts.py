"""Counts: what is published from, and what results show."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from allocator.experiment import Experiment
from allocator.posterior.effective_trials import Count
from storage.postgres.pool import Connection, columns

_CREATE_CELLS = """
    INSERT INTO segment_counts (experiment_no, segmentation_version, segment_no, variant_no, day, trials, successes,
        pending_version)
    SELECT *, 0, 0, 0 FROM unnest($1::int[], $2::int[], $3::int[], $4::smallint[], $5::date[])
    ON CONFLICT DO NOTHING
"""
_ADD_COUNTS = """
    WITH added AS (
        SELECT * FROM unnest($1::int[], $2::int[], $3::int[], $4::smallint[], $5::date[], $6::bigint[], $7::bigint[],
                $8::bigint[])
            AS a (experiment_no, segmentation_version, segment_no, variant_no, day, trials, successes, pending_version)
    ), locked AS (
        SELECT added.* FROM segment_counts
            JOIN added USING (experiment_no, segmentation_version, segment_no, variant_no, day)
        ORDER BY experiment_no, segmentation_version, segment_no, variant_no, day
        FOR UPDATE OF segment_counts
    )
    UPDATE segment_counts s SET trials = s.trials + l.trials, successes = s.successes + l.successes,
        pending_version = l.pending_version
    FROM locked l
    WHERE (s.experiment_no, s.segmentation_version, s.segment_no, s.variant_no, s.day)
        = (l.experiment_no, l.segmentation_version, l.segment_no, l.variant_no, l.day)
"""
_SEGMENT_COUNTS = """
    WITH young AS (
        SELECT segment_no, variant_no, sum(trials) AS trials, sum(successes) AS successes
        FROM cohort_counts JOIN experiments USING (experiment_no)
        WHERE experiment_no = $1 AND segmentation_version = $2 AND cohort >= cohort_of($3, maturity_seconds) - 32
        GROUP BY 1, 2
    ), counted AS (
        SELECT segment_no, variant_no, sum(trials) AS trials, sum(successes) AS successes
        FROM segment_counts WHERE experiment_no = $1 AND segmentation_version = $2
        GROUP BY 1, 2
    )
    SELECT segment_no, segment_key, variant_no, c.trials::bigint, c.successes::bigint,
        (c.trials - coalesce(y.trials, 0))::bigint, (c.successes - coalesce(y.successes, 0))::bigint
    FROM counted c JOIN experiment_segments s USING (segment_no) LEFT JOIN young y USING (segment_no, variant_no)
    WHERE s.experiment_no = $1 AND s.segmentation_version = $2
"""


@dataclass(frozen=True)
class SegmentCount:
    """Users assigned to a variant in a segment, and how many of them converted in the primary metric.

    trials and successes are of mature users only.
    """

    segment: int
    segment_key: str
    variant: int
    allocations: int
    conversions: int
    trials: int
    successes: int


async def add(connection: Connection, rows: Iterable[tuple[object, ...]]) -> None:
    """Add trials and successes to cells, in the transaction that changes the log.

    A row: experiment, segmentation version, segment, variant, day, trials, successes, and the posterior version that
    will first know them.
    """
    ordered = sorted(rows)  # so that workers cannot wait for each other in a ring
    await connection.execute(_CREATE_CELLS, *columns(ordered, 5))
    await connection.execute(_ADD_COUNTS, *columns(ordered, 8))


async def daily_counts(connection: Connection, experiment_number: int, segmentation_version: int) -> list[Count]:
    """All counts of one segmentation, a day each."""
    rows = await connection.fetch(
        """
        SELECT segment_no, variant_no, day, trials, successes FROM segment_counts
        WHERE experiment_no = $1 AND segmentation_version = $2
        ORDER BY segment_no, variant_no, day
        """,
        experiment_number,
        segmentation_version,
    )
    return [Count(*row) for row in rows]


async def mature_days(connection: Connection, experiment: Experiment, now: datetime) -> list[Count]:
    """Counts of the serving segmentation, a day each: of days whose users are all as old as the maturity."""
    rows = await connection.fetch(
        """
        SELECT segment_no, variant_no, day, trials, successes FROM segment_counts JOIN experiments USING (experiment_no)
        WHERE experiment_no = $1 AND segmentation_version = $2 AND (maturity_seconds = 0
            OR day < (($3::timestamptz - make_interval(secs => maturity_seconds)) AT TIME ZONE time_zone)::date)
        """,
        experiment.number,
        experiment.segmentation_version,
        now,
    )
    return [Count(*row) for row in rows]


async def segment_counts(
    connection: Connection, experiment_number: int, segmentation_version: int, now: datetime
) -> list[SegmentCount]:
    """All counts of one segmentation, over all days."""
    rows = await connection.fetch(_SEGMENT_COUNTS, experiment_number, segmentation_version, now)
    return [SegmentCount(*row) for row in rows]


async def unpublished(connection: Connection) -> set[int]:
    """Numbers of experiments with counts that no posterior version knows."""
    rows = await connection.fetch(
        """
        SELECT experiment_no FROM experiments e WHERE EXISTS (
            SELECT FROM segment_counts c
            WHERE c.experiment_no = e.experiment_no AND c.pending_version > e.posterior_version)
        """
    )
    return {row["experiment_no"] for row in rows}


async def experiment_ids(connection: Connection, numbers: set[int]) -> set[str]:
    """The ids of experiments by number."""
    rows = await connection.fetch(
        "SELECT experiment_id FROM experiments WHERE experiment_no = ANY($1::int[])", sorted(numbers)
    )
    return {row["experiment_id"] for row in rows}
