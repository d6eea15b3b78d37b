"""Breakdowns of an experiment's users by the values of their contexts."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import asyncpg

from storage.postgres.pool import Connection

# One pass over the log; what is beyond the largest groups is summed in the last row.
_BREAKDOWN = """
    WITH users AS (
        SELECT coalesce(context ->> $2, 'unknown') AS one, coalesce(context ->> $3, 'unknown') AS other,
            is_success(assigned_at, converted_at, maturity_seconds) AS success,
            assigned_at < mature_before($4, maturity_seconds) AS mature
        FROM assignments JOIN experiments USING (experiment_no) WHERE experiment_no = $1
    ), groups AS (
        SELECT one, other, count(*) AS allocations, count(*) FILTER (WHERE success) AS conversions,
            count(*) FILTER (WHERE mature) AS trials, count(*) FILTER (WHERE mature AND success) AS successes,
            row_number() OVER (ORDER BY count(*) DESC, one, other) <= $5 AS shown
        FROM users GROUP BY one, other
    )
    SELECT one, other, allocations, conversions, trials, successes, shown FROM groups WHERE shown
    UNION ALL
    SELECT NULL, NULL, sum(allocations)::bigint, sum(conversions)::bigint, sum(trials)::bigint, sum(successes)::bigint,
        false
    FROM groups WHERE NOT shown HAVING count(*) > 0
    ORDER BY shown DESC, allocations DESC, one, other
"""


@dataclass(frozen=True)
class Group:
    """Users with the same values; no values: all others. trials and successes are of mature users only."""

    values: tuple[str, ...]
    allocations: int
    conversions: int
    trials: int
    successes: int


async def breakdown(
    connection: Connection, experiment_number: int, names: Sequence[str], limit: int, now: datetime
) -> list[Group]:
    """Return the largest groups by one or two dimensions, and then all other users as one group, if there are any."""
    rows = await connection.fetch(_BREAKDOWN, experiment_number, names[0], names[-1], now, limit)
    return [
        Group(
            values=_values(row, len(names)),
            allocations=row["allocations"],
            conversions=row["conversions"],
            trials=row["trials"],
            successes=row["successes"],
        )
        for row in rows
    ]


def _values(row: asyncpg.Record, dimensions: int) -> tuple[str, ...]:
    if not row["shown"]:
        return ()
    return (row["one"],) if dimensions == 1 else (row["one"], row["other"])
