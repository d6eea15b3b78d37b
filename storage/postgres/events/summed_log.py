"""The log of assignments, summed for estimates: one row for each period, segment and variant, however long it is."""

from datetime import UTC, datetime
from typing import NamedTuple

import asyncpg
import numpy as np

from allocator.estimates import LoggedAssignments, WeightSums
from allocator.estimates.log import Array
from storage.postgres.pool import Connection

_LEAST_PERIODS = 24  # estimates learn from earlier periods, and judge their own error by how periods differ
_DAY_SECONDS = 86_400.0
_SPAN = """
    SELECT extract(epoch FROM min(assigned_at))::float8 AS first, extract(epoch FROM max(assigned_at))::float8 AS last
    FROM assignments JOIN experiments USING (experiment_no)
    WHERE experiment_no = $1 AND cells ? $2 AND assigned_at < mature_before($3, maturity_seconds)
        AND assigned_at >= coalesce($4, '-infinity'::timestamptz)
"""
_SUMS = """
    SELECT period, cell AS segment_no, variant_no, count(*) AS trials, count(*) FILTER (WHERE won) AS successes,
        min(least(q_segment, q_global)) AS lowest,
        sum(i) AS i_total, coalesce(sum(i) FILTER (WHERE won), 0) AS i_won,
        sum(i * i) AS i_squares, coalesce(sum(i * i) FILTER (WHERE won), 0) AS i_squares_won,
        sum(s) AS s_total, coalesce(sum(s) FILTER (WHERE won), 0) AS s_won,
        sum(s * s) AS s_squares, coalesce(sum(s * s) FILTER (WHERE won), 0) AS s_squares_won,
        sum(a) AS a_total, coalesce(sum(a) FILTER (WHERE won), 0) AS a_won,
        sum(a * a) AS a_squares, coalesce(sum(a * a) FILTER (WHERE won), 0) AS a_squares_won
    FROM (
        SELECT *, (cells ->> $2)::int AS cell,
            floor((extract(epoch FROM assigned_at)::float8 - $4) / $5)::int AS period,
            is_success(assigned_at, converted_at, maturity_seconds) AS won, 1 / marginal_propensity AS i,
            (q_segment - q_global) / marginal_propensity AS s,
            (q_segment - (variant_no = $3)::int) / marginal_propensity AS a
        FROM assignments JOIN experiments USING (experiment_no)
        WHERE experiment_no = $1 AND cells ? $2 AND assigned_at < mature_before($6, maturity_seconds)
            AND assigned_at >= coalesce($7, '-infinity'::timestamptz)
    ) weighted
    GROUP BY period, cell, variant_no
"""
_LIVES = """
    SELECT variant_no, added_at <= e.started_at AS from_start, extract(epoch FROM added_at)::float8 AS added,
        extract(epoch FROM retired_at)::float8 AS retired
    FROM element_variants v JOIN experiments e USING (experiment_no) WHERE experiment_no = $1 ORDER BY variant_no
"""


class SummedLog(NamedTuple):
    """The log by index: segment and variant numbers in the order of the arrays' axes, and when each period began."""

    log: LoggedAssignments
    segments: list[int]
    variants: list[int]
    periods: list[datetime]


async def summed_log(
    connection: Connection,
    experiment_number: int,
    segmentation_version: int,
    control: int,
    now: datetime,
    *,
    since: datetime | None = None,
    by_day: bool = False,
) -> SummedLog | None:
    """Return the log of one segmentation, summed for estimates; None before any user is mature.

    control: a variant number. since: only of users who came from then on; by_day: periods are days from then on,
    rather than shorter where there are few days.
    """
    version = str(segmentation_version)
    span = await connection.fetchrow(_SPAN, experiment_number, version, now, since)
    if span is None or span["first"] is None:
        return None
    first, width = span["first"], period_seconds(span["last"] - span["first"])
    if by_day:
        first, width = first if since is None else since.timestamp(), _DAY_SECONDS
    rows = await connection.fetch(_SUMS, experiment_number, version, control, first, width, now, since)
    lives = await connection.fetch(_LIVES, experiment_number)
    periods = sorted({row["period"] for row in rows})
    segments = sorted({row["segment_no"] for row in rows})
    variants = [row["variant_no"] for row in lives]
    cells = [
        (periods.index(r["period"]), segments.index(r["segment_no"]), variants.index(r["variant_no"])) for r in rows
    ]

    def spread(column: str) -> Array:
        array = np.zeros((len(periods), len(segments), len(variants)))
        for cell, row in zip(cells, rows, strict=True):
            array[cell] = row[column]
        return array

    def weights(letter: str) -> WeightSums:
        return WeightSums(
            total=spread(f"{letter}_total"),
            won=spread(f"{letter}_won"),
            squares=spread(f"{letter}_squares"),
            squares_won=spread(f"{letter}_squares_won"),
        )

    lowest = np.ones(len(variants))
    for (_, _, variant), row in zip(cells, rows, strict=True):
        lowest[variant] = min(lowest[variant], row["lowest"])
    log = LoggedAssignments(
        trials=spread("trials"),
        successes=spread("successes"),
        inverse=weights("i"),
        segmentation=weights("s"),
        adaptive=weights("a"),
        lowest=lowest,
        drawable=np.array([[_drawable(life, first + period * width, width) for life in lives] for period in periods]),
    )
    return SummedLog(
        log, segments, variants, [datetime.fromtimestamp(first + period * width, UTC) for period in periods]
    )


def period_seconds(span: float) -> float:
    """Return how long a period is: a day, or less where the log spans fewer than _LEAST_PERIODS days."""
    return min(_DAY_SECONDS, (span + 1.0) / _LEAST_PERIODS)


def _drawable(life: asyncpg.Record, begin: float, seconds: float) -> bool:
    """Return whether the variant could be drawn during the whole period. Times are Unix seconds."""
    began = life["from_start"] or life["added"] <= begin
    return bool(began and (life["retired"] is None or life["retired"] >= begin + seconds))
