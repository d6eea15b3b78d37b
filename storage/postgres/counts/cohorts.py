"""Counts of users by age, of experiments with a maturity: what is pending, and how long conversions take."""

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime

from allocator.posterior.effective_trials import ALL_MATURE, DELAY_STEPS, Count, ImmatureCount, ImmatureUsers
from storage.postgres.pool import Connection

_KEPT = 8 * DELAY_STEPS  # cohorts

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
_PENDING = """
    SELECT segment_no, variant_no, day, trials, successes, cohort
    FROM cohort_counts WHERE experiment_no = $1 AND segmentation_version = $2 AND cohort >= cohort_of($3, $4) - 32
    ORDER BY segment_no, variant_no, cohort, day
"""
_DELAYS = """
    SELECT variant_no, delay_step, sum(successes)::bigint AS successes
    FROM conversion_delays WHERE experiment_no = $1 AND cohort < cohort_of($2, $3) - 32
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


async def add(
    connection: Connection, assigned: Sequence[Sequence[object]], converted: Sequence[Sequence[object]]
) -> None:
    """Count new users and new successes, given as columns.

    Columns: experiment, segmentation version, segment, variant, day, assigned at, converted at or None, and how many
    users.
    """
    both = [[*old, *new] for old, new in zip(assigned, converted, strict=True)]
    await connection.execute(_ADD_COUNTS, *both)
    experiment, _, _, variant, _, assigned_at, converted_at, _ = converted
    if experiment:
        await connection.execute(_ADD_DELAYS, experiment, variant, assigned_at, converted_at)


async def pending(
    connection: Connection, experiment_number: int, segmentation_version: int, maturity_seconds: int, now: datetime
) -> ImmatureUsers:
    """What is younger than the maturity, and the delays of what is not."""
    if not maturity_seconds:
        return ALL_MATURE
    delays: dict[int, list[int]] = defaultdict(lambda: [0] * DELAY_STEPS)
    for row in await connection.fetch(_DELAYS, experiment_number, now, maturity_seconds):
        delays[row["variant_no"]][row["delay_step"]] = row["successes"]
    current = now.timestamp() * DELAY_STEPS / maturity_seconds
    counts = []
    for *count, cohort in await connection.fetch(
        _PENDING, experiment_number, segmentation_version, now, maturity_seconds
    ):
        age = (current - cohort - 0.5) / DELAY_STEPS
        counts.append(ImmatureCount(Count(*count), min(max(age, 0.0), 1.0)))
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
    """Delete cohorts that have nothing more to say."""
    await connection.execute(_FORGET_COUNTS, now, _KEPT)
    await connection.execute(_FORGET_DELAYS, now, _KEPT)
