"""The log of assignments, summed for estimates: one row for each day, segment and variant, however long the log."""

from datetime import date
from typing import NamedTuple

import asyncpg
import numpy as np

from allocator.estimates import LoggedAssignments, WeightSums
from allocator.estimates.log import Array
from storage.postgres.pool import Connection

_SUMS = """
    SELECT day, segment_no, variant_no, count(*) AS trials, count(converted_at) AS successes,
        min(least(q_segment, q_global)) AS lowest,
        sum(i) AS i_total, coalesce(sum(i) FILTER (WHERE won), 0) AS i_won,
        sum(i * i) AS i_squares, coalesce(sum(i * i) FILTER (WHERE won), 0) AS i_squares_won,
        sum(s) AS s_total, coalesce(sum(s) FILTER (WHERE won), 0) AS s_won,
        sum(s * s) AS s_squares, coalesce(sum(s * s) FILTER (WHERE won), 0) AS s_squares_won,
        sum(a) AS a_total, coalesce(sum(a) FILTER (WHERE won), 0) AS a_won,
        sum(a * a) AS a_squares, coalesce(sum(a * a) FILTER (WHERE won), 0) AS a_squares_won
    FROM (
        SELECT *, converted_at IS NOT NULL AS won, 1 / marginal_propensity AS i,
            (q_segment - q_global) / marginal_propensity AS s,
            (q_segment - (variant_no = $3)::int) / marginal_propensity AS a
        FROM assignments WHERE experiment_no = $1 AND segmentation_version = $2
    ) weighted
    GROUP BY day, segment_no, variant_no
"""
_LIVES = """
    SELECT variant_no, (added_at AT TIME ZONE e.time_zone)::date AS added_on, added_at <= e.started_at AS from_start,
        (retired_at AT TIME ZONE e.time_zone)::date AS retired_on
    FROM element_variants v JOIN experiments e USING (experiment_no) WHERE experiment_no = $1 ORDER BY variant_no
"""


class SummedLog(NamedTuple):
    """The log by index: segment and variant numbers in the order of the arrays' axes."""

    log: LoggedAssignments
    segments: list[int]
    variants: list[int]


async def summed_log(
    connection: Connection, experiment_number: int, segmentation_version: int, control: int
) -> SummedLog | None:
    """What estimates need of one segmentation's log; None before anyone was assigned. `control` is a variant number."""
    rows = await connection.fetch(_SUMS, experiment_number, segmentation_version, control)
    if not rows:
        return None
    lives = await connection.fetch(_LIVES, experiment_number)
    days = sorted({row["day"] for row in rows})
    segments = sorted({row["segment_no"] for row in rows})
    variants = [row["variant_no"] for row in lives]
    cells = [(days.index(r["day"]), segments.index(r["segment_no"]), variants.index(r["variant_no"])) for r in rows]

    def spread(column: str) -> Array:
        array = np.zeros((len(days), len(segments), len(variants)))
        for cell, row in zip(cells, rows, strict=True):
            array[cell] = row[column]
        return array

    def weights(letter: str) -> WeightSums:
        return WeightSums(*(spread(f"{letter}_{name}") for name in ("total", "won", "squares", "squares_won")))

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
        drawable=np.array([[_drawable(life, day) for life in lives] for day in days]),
    )
    return SummedLog(log, segments, variants)


def _drawable(life: asyncpg.Record, day: date) -> bool:
    """Whether the variant could be drawn on the whole of a day."""
    began = life["from_start"] or life["added_on"] < day
    return bool(began and (life["retired_on"] is None or life["retired_on"] > day))
