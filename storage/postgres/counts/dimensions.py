"""Counts of users by the values of each dimension and by day: recommendations rest on them, not on the whole log."""

from collections.abc import Sequence
from datetime import date, datetime, timedelta
from typing import NamedTuple

import numpy as np

from allocator.experiment import Experiment
from allocator.segmentation import DimensionCounts
from storage.postgres.counts.dimension_tally import MOST_VALUES
from storage.postgres.pool import Connection

KEPT_DAYS = 90
_MOST_CONDITIONAL_VALUES = 50  # values of a dimension in a segment by others
# What the log says of the days that are kept, by the values that have rows.
_LOG = """
    SELECT experiment_no, dimension, day, CASE WHEN k.value IS NULL THEN 'other' ELSE k.value END AS value, variant_no,
        count(*) AS trials, count(*) FILTER (WHERE success) AS successes
    FROM (
        SELECT experiment_no, day, variant_no, dimension, value,
            is_success(assigned_at, converted_at, maturity_seconds) AS success
        FROM assignments JOIN experiments USING (experiment_no)
            JOIN (SELECT experiment_no, min(day) AS first FROM dimension_counts GROUP BY 1) kept USING (experiment_no),
            LATERAL (SELECT * FROM jsonb_each_text(context) UNION ALL SELECT '', '') AS known (dimension, value)
        WHERE ($1::int IS NULL OR experiment_no = $1) AND day >= first
    ) users JOIN (SELECT DISTINCT experiment_no, dimension FROM dimension_counts) d USING (experiment_no, dimension)
        LEFT JOIN (SELECT DISTINCT experiment_no, dimension, day, value FROM dimension_counts) k
        USING (experiment_no, dimension, day, value)
    GROUP BY 1, 2, 3, 4, 5
"""
_DIFFERENCES = f"""
    SELECT experiment_no, dimension, day, value, variant_no,
        coalesce(l.trials, 0) - coalesce(c.trials, 0) AS trials,
        coalesce(l.successes, 0) - coalesce(c.successes, 0) AS successes
    FROM (SELECT * FROM dimension_counts WHERE $1::int IS NULL OR experiment_no = $1) c FULL JOIN ({_LOG}) l
        USING (experiment_no, dimension, day, value, variant_no)
    WHERE (coalesce(l.trials, 0), coalesce(l.successes, 0)) <> (coalesce(c.trials, 0), coalesce(c.successes, 0))
"""  # noqa: S608
_REPAIR = f"""
    INSERT INTO dimension_counts AS c
    SELECT experiment_no, dimension, day, value, variant_no, 0, trials, successes FROM ({_DIFFERENCES}) d
    ORDER BY 1, 2, 3, 4, 5
    ON CONFLICT (experiment_no, dimension, day, value, variant_no) DO UPDATE SET
        trials = c.trials + excluded.trials, successes = c.successes + excluded.successes
"""  # noqa: S608
_READ = """
    WITH counted AS (
        SELECT * FROM dimension_counts
        WHERE experiment_no = $1 AND day >= $2 AND day < $3 AND variant_no = ANY($4::smallint[])
    ), ranked AS (
        SELECT dimension, value,
            row_number() OVER (PARTITION BY dimension ORDER BY sum(trials) DESC, value) <= $5 AS own
        FROM counted GROUP BY 1, 2
    )
    SELECT dimension, CASE WHEN own THEN value ELSE 'other' END AS value, day, variant_no,
        sum(trials)::bigint AS trials, sum(least(successes, trials))::bigint AS successes
    FROM counted JOIN ranked USING (dimension, value) GROUP BY 1, 2, 3, 4 ORDER BY 1, 2
"""
# Of the log: a dimension's values apart in each segment by other dimensions.
_CONDITIONAL_COUNTS = """
    WITH users AS (
        SELECT segment_key_of(context, $2) AS segment, coalesce(context ->> $3, 'unknown') AS value, day, variant_no,
            is_success(assigned_at, converted_at, maturity_seconds) AS success
        FROM assignments JOIN experiments USING (experiment_no)
        WHERE experiment_no = $1 AND variant_no = ANY($6::smallint[]) AND day >= $4 AND day
            < (($5::timestamptz - make_interval(secs => maturity_seconds)) AT TIME ZONE time_zone)::date
    ), largest_segments AS (SELECT segment FROM users GROUP BY 1 ORDER BY count(*) DESC, 1 LIMIT $7
    ), largest_values AS (SELECT value FROM users GROUP BY 1 ORDER BY count(*) DESC, 1 LIMIT $8)
    SELECT CASE WHEN segment IN (SELECT segment FROM largest_segments) THEN segment ELSE 'other' END AS segment,
        CASE WHEN value IN (SELECT value FROM largest_values) THEN value ELSE 'other' END AS value,
        day, variant_no, count(*) AS trials, count(*) FILTER (WHERE success) AS successes
    FROM users GROUP BY 1, 2, 3, 4
"""


class ConditionalCount(NamedTuple):
    """Mature users of one day, variant, segment by other dimensions, and value of the dimension."""

    segment: str
    value: str
    day: date
    variant: int
    trials: int
    successes: int


async def differences(connection: Connection, experiment_number: int | None = None) -> int:
    """Return how many counts differ from the log, of one experiment or of all. No log has visitors, so not these."""
    return len(await connection.fetch(_DIFFERENCES, experiment_number))


async def repair(connection: Connection, experiment_number: int | None = None) -> None:
    """Set the counts of one experiment, or of all, to what the log says."""
    await connection.execute(_REPAIR, experiment_number)


async def forget(connection: Connection, now: datetime) -> None:
    """Delete the days that are older than KEPT_DAYS."""
    await connection.execute("DELETE FROM dimension_counts WHERE day < $1", now.date() - timedelta(KEPT_DAYS))


async def read(
    connection: Connection, experiment: Experiment, variants: Sequence[int], first: date, end: date
) -> list[DimensionCounts]:
    """Return counts of these variants from `first` to before `end`: everyone's, then each dimension's by its name."""
    rows = await connection.fetch(_READ, experiment.number, first, end, variants, MOST_VALUES)
    arm_of = {number: arm for arm, number in enumerate(variants)}
    day_of = {day: index for index, day in enumerate(sorted({row["day"] for row in rows}))}
    values: dict[str, dict[str, int]] = {}
    for row in rows:
        known = values.setdefault(row["dimension"], {})
        known.setdefault(row["value"], len(known))
    found = {}
    for name, known in values.items():
        shape = len(day_of), len(known), len(variants)
        found[name] = DimensionCounts(name, tuple(known), np.zeros(shape, np.int64), np.zeros(shape, np.int64))
    for row in rows:
        counts = found[row["dimension"]]
        cell = day_of[row["day"]], values[row["dimension"]][row["value"]], arm_of[row["variant_no"]]
        counts.trials[cell], counts.successes[cell] = row["trials"], row["successes"]
    return [found[name] for name in sorted(found)]


async def conditional_counts(
    connection: Connection,
    experiment: Experiment,
    others: Sequence[str],
    dimension: str,
    variants: Sequence[int],
    first: date,
    now: datetime,
) -> list[ConditionalCount]:
    """Return the log of these variants from a day on, by the values of a dimension in each segment by the others.

    Dimensions are named as in contexts. The largest segments and values have rows of their own, the rest of each is
    under "other".
    """
    rows = await connection.fetch(
        _CONDITIONAL_COUNTS,
        experiment.number,
        others,
        dimension,
        first,
        now,
        variants,
        experiment.segmentation.max_segments,
        _MOST_CONDITIONAL_VALUES,
    )
    return [
        ConditionalCount(
            segment=row["segment"],
            value=row["value"],
            day=row["day"],
            variant=row["variant_no"],
            trials=row["trials"],
            successes=row["successes"],
        )
        for row in rows
    ]
