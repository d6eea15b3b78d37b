"""Counts of users by segment, variant and day: posteriors are made from them, and results show them."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime
from typing import NamedTuple

import asyncpg

from allocator.experiment import Experiment
from allocator.posterior.effective_trials import DELAY_STEPS, Count
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
        WHERE experiment_no = $1 AND segmentation_version = $2 AND cohort >= cohort_of($3, maturity_seconds) - $4
        GROUP BY 1, 2
    ), counted AS (
        SELECT segment_no, variant_no, sum(trials) AS trials, sum(successes) AS successes
        FROM segment_counts WHERE experiment_no = $1 AND segmentation_version = $2
        GROUP BY 1, 2
    )
    SELECT segment_no AS segment, segment_key, variant_no AS variant, c.trials::bigint AS allocations,
        c.successes::bigint AS conversions, (c.trials - coalesce(y.trials, 0))::bigint AS trials,
        (c.successes - coalesce(y.successes, 0))::bigint AS successes
    FROM counted c JOIN experiment_segments s USING (segment_no) LEFT JOIN young y USING (segment_no, variant_no)
    WHERE s.experiment_no = $1 AND s.segmentation_version = $2
"""


class Cell(NamedTuple):
    """Where users are counted: those who are in a segment and were assigned to a variant on a day."""

    experiment: int
    segmentation_version: int
    segment: int
    variant: int
    day: date


class CellChange(NamedTuple):
    """What is added to a cell. `next_version` is the posterior version that will be the first to know it."""

    cell: Cell
    trials: int
    successes: int
    next_version: int


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


def count_of(row: asyncpg.Record) -> Count:
    """Read a row with segment_no, variant_no, day, trials and successes."""
    return Count(
        segment=row["segment_no"],
        variant=row["variant_no"],
        day=row["day"],
        trials=row["trials"],
        successes=row["successes"],
    )


async def add(connection: Connection, changes: Iterable[CellChange]) -> None:
    """Add trials and successes to cells, in the transaction that changes the log."""
    ordered = sorted(changes)  # by cell, so that workers cannot wait for each other in a ring
    cells = columns(ordered, "cell.experiment", "cell.segmentation_version", "cell.segment", "cell.variant", "cell.day")
    await connection.execute(_CREATE_CELLS, *cells)
    await connection.execute(_ADD_COUNTS, *cells, *columns(ordered, "trials", "successes", "next_version"))


async def daily_counts(connection: Connection, experiment_number: int, segmentation_version: int) -> list[Count]:
    """Return all counts of one segmentation, by day."""
    rows = await connection.fetch(
        """
        SELECT segment_no, variant_no, day, trials, successes FROM segment_counts
        WHERE experiment_no = $1 AND segmentation_version = $2
        ORDER BY segment_no, variant_no, day
        """,
        experiment_number,
        segmentation_version,
    )
    return [count_of(row) for row in rows]


async def mature_days(connection: Connection, experiment: Experiment, now: datetime) -> list[Count]:
    """Return the counts of the segmentation that serves, by day, of the days whose users are all mature."""
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
    return [count_of(row) for row in rows]


async def segment_counts(
    connection: Connection, experiment_number: int, segmentation_version: int, now: datetime
) -> list[SegmentCount]:
    """Return all counts of one segmentation, each over all days."""
    rows = await connection.fetch(_SEGMENT_COUNTS, experiment_number, segmentation_version, now, DELAY_STEPS)
    return [SegmentCount(**row) for row in rows]


async def unpublished(connection: Connection) -> set[int]:
    """Return the numbers of the experiments with counts that no posterior version knows yet."""
    rows = await connection.fetch(
        """
        SELECT experiment_no FROM experiments e WHERE EXISTS (
            SELECT FROM segment_counts c
            WHERE c.experiment_no = e.experiment_no AND c.pending_version > e.posterior_version)
        """
    )
    return {row["experiment_no"] for row in rows}


async def experiment_ids(connection: Connection, numbers: set[int]) -> set[str]:
    """Return the ids of the experiments with these numbers."""
    rows = await connection.fetch(
        "SELECT experiment_id FROM experiments WHERE experiment_no = ANY($1::int[])", sorted(numbers)
    )
    return {row["experiment_id"] for row in rows}
