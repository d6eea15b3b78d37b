"""Counts of users by age, of experiments with a maturity: users who are immature, and how long conversions take."""

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from allocator.posterior.effective_trials import ALL_MATURE, DELAY_STEPS, ImmatureCount, ImmatureUsers
from storage.postgres.counts.counts import Cell, count_of
from storage.postgres.pool import Connection, columns

_KEPT = 8 * DELAY_STEPS  # cohorts; the functions of the migrations divide a maturity into DELAY_STEPS of them

_ADD_COUNTS = """
    INSERT INTO cohort_counts AS c
        (experiment_no, segmentation_version, cohort, segment_no, variant_no, day, trials, successes)
    SELECT experiment_no, segmentation_version, cohort_of(assigned_at, maturity_seconds), segment_no, variant_no, day,
        coalesce(sum(users) FILTER (WHERE converted_at IS NULL), 0),
        coalesce(sum(users) FILTER (WHERE converted_at IS NOT NULL), 0)
    FROM unnest($1::int[], $2::int[], $3::int[], $4::smallint[], $5::date[], $6::timestamptz[], $7::timestamptz[],
                $8::bigint[])
            AS a (experiment_no, segmentation_version, segment_no, variant_no, day, assigned_at, converted_at, users)
        JOIN experiments USING (experiment_no)
    WHERE maturity_seconds > 0
    GROUP BY 1, 2, 3, 4, 5, 6 ORDER BY 1, 2, 3, 4, 5, 6
    ON CONFLICT (experiment_no, segmentation_version, cohort, segment_no, variant_no, day)
        DO UPDATE SET trials = c.trials + excluded.trials, successes = c.successes + excluded.successes
"""
_ADD_DELAYS = """
    INSERT INTO conversion_delays AS c (experiment_no, cohort, variant_no, delay_step, successes)
    SELECT experiment_no, cohort_of(assigned_at, maturity_seconds), variant_no,
        delay_step_of(assigned_at, converted_at, maturity_seconds), count(*)
    FROM unnest($1::int[], $2::smallint[], $3::timestamptz[], $4::timestamptz[])
            AS a (experiment_no, variant_no, assigned_at, converted_at)
        JOIN experiments USING (experiment_no)
    WHERE maturity_seconds > 0
    GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4
    ON CONFLICT (experiment_no, cohort, variant_no, delay_step)
        DO UPDATE SET successes = c.successes + excluded.successes
"""
_IMMATURE = """
    SELECT segment_no, variant_no, day, trials, successes, cohort
    FROM cohort_counts WHERE experiment_no = $1 AND segmentation_version = $2 AND cohort >= cohort_of($3, $4) - $5
    ORDER BY segment_no, variant_no, cohort, day
"""
_DELAYS = """
    SELECT variant_no, delay_step, sum(successes)::bigint AS successes
    FROM conversion_delays WHERE experiment_no = $1 AND cohort < cohort_of($2, $3) - $4
    GROUP BY variant_no, delay_step
"""
_RECOUNT_COUNTS = """
    INSERT INTO cohort_counts
        (experiment_no, segmentation_version, cohort, segment_no, variant_no, day, trials, successes)
    SELECT experiment_no, v.segmentation_version, cohort_of(assigned_at, maturity_seconds),
        (cells ->> v.segmentation_version::text)::int, variant_no, day, count(*),
        count(*) FILTER (WHERE is_success(assigned_at, converted_at, maturity_seconds))
    FROM assignments JOIN experiments USING (experiment_no) JOIN counted_segmentations v USING (experiment_no)
    WHERE cells ? v.segmentation_version::text AND experiment_no = $1 AND maturity_seconds > 0
        AND cohort_of(assigned_at, maturity_seconds) >= cohort_of($2, maturity_seconds) - $3
    GROUP BY 1, 2, 3, 4, 5, 6
"""
_RECOUNT_DELAYS = """
    INSERT INTO conversion_delays (experiment_no, cohort, variant_no, delay_step, successes)
    SELECT experiment_no, cohort_of(assigned_at, maturity_seconds), variant_no,
        delay_step_of(assigned_at, converted_at, maturity_seconds), count(*)
    FROM assignments JOIN experiments USING (experiment_no)
    WHERE experiment_no = $1 AND maturity_seconds > 0 AND is_success(assigned_at, converted_at, maturity_seconds)
        AND cohort_of(assigned_at, maturity_seconds) >= cohort_of($2, maturity_seconds) - $3
    GROUP BY 1, 2, 3, 4
"""
_FORGET_COUNTS = """
    DELETE FROM cohort_counts c USING experiments e
    WHERE c.experiment_no = e.experiment_no AND c.cohort < cohort_of($1, e.maturity_seconds) - $2
"""
_FORGET_DELAYS = """
    DELETE FROM conversion_delays c USING experiments e
    WHERE c.experiment_no = e.experiment_no AND c.cohort < cohort_of($1, e.maturity_seconds) - $2
"""


class CohortUsers(NamedTuple):
    """So many users of one cell and one cohort. `converted_at` is None if they are counted as trials."""

    cell: Cell
    assigned_at: datetime
    converted_at: datetime | None
    users: int


async def add(connection: Connection, trials: Sequence[CohortUsers], successes: Sequence[CohortUsers]) -> None:
    """Count new trials and new successes, in the transaction that changes the log."""
    await connection.execute(
        _ADD_COUNTS,
        *columns(
            (*trials, *successes),
            "cell.experiment",
            "cell.segmentation_version",
            "cell.segment",
            "cell.variant",
            "cell.day",
            "assigned_at",
            "converted_at",
            "users",
        ),
    )
    if successes:
        delays = columns(successes, "cell.experiment", "cell.variant", "assigned_at", "converted_at")
        await connection.execute(_ADD_DELAYS, *delays)


async def immature(
    connection: Connection, experiment_number: int, segmentation_version: int, maturity_seconds: int, now: datetime
) -> ImmatureUsers:
    """Return the counts of immature users by age, and the delays with which mature users converted."""
    if not maturity_seconds:
        return ALL_MATURE
    delays: dict[int, list[int]] = defaultdict(lambda: [0] * DELAY_STEPS)
    for row in await connection.fetch(_DELAYS, experiment_number, now, maturity_seconds, DELAY_STEPS):
        delays[row["variant_no"]][row["delay_step"]] = row["successes"]
    current = now.timestamp() * DELAY_STEPS / maturity_seconds
    counts = []
    rows = await connection.fetch(
        _IMMATURE, experiment_number, segmentation_version, now, maturity_seconds, DELAY_STEPS
    )
    for row in rows:
        age = (current - row["cohort"] - 0.5) / DELAY_STEPS
        counts.append(ImmatureCount(count_of(row), min(max(age, 0.0), 1.0)))
    return ImmatureUsers(counts, delays)


async def recount(connection: Connection, experiment_number: int, now: datetime) -> None:
    """Count an experiment anew from its log. The caller holds its row FOR UPDATE."""
    await connection.execute("DELETE FROM cohort_counts WHERE experiment_no = $1", experiment_number)
    await connection.execute("DELETE FROM conversion_delays WHERE experiment_no = $1", experiment_number)
    await connection.execute(_RECOUNT_COUNTS, experiment_number, now, _KEPT)
    await connection.execute(_RECOUNT_DELAYS, experiment_number, now, _KEPT)


async def recount_all(connection: Connection, now: datetime) -> None:
    """Count all experiments with a maturity anew, one after the other."""
    for row in await connection.fetch("SELECT experiment_no FROM experiments WHERE maturity_seconds > 0 ORDER BY 1"):
        async with connection.transaction():
            await connection.execute(
                "SELECT FROM experiments WHERE experiment_no = $1 FOR UPDATE", row["experiment_no"]
            )
            await recount(connection, row["experiment_no"], now)


async def forget(connection: Connection, now: datetime) -> None:
    """Delete cohorts that are too old to say anything about delays."""
    await connection.execute(_FORGET_COUNTS, now, _KEPT)
    await connection.execute(_FORGET_DELAYS, now, _KEPT)
