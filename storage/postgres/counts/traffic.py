"""Traffic of experiments: recent users by segment, which decide what segments are kept; visitors and bots a day."""

from collections.abc import Iterable, Mapping
from datetime import date, datetime
from typing import NamedTuple

from allocator.experiment import Experiment
from storage.postgres.pool import Connection, columns

_SEGMENTED = """
    SELECT experiment_id FROM experiments JOIN experiment_segmentation_config USING (experiment_no)
    WHERE state = 'RUNNING' AND mode = 'MANUAL'
"""
_RECENT = """
    SELECT segment_key_of(context, $2) AS segment_key, count(*) * 256 / $5 AS users FROM assignments
    WHERE experiment_no = $1 AND assigned_at >= $3 AND get_byte(user_key, 15) < $5
    GROUP BY 1 ORDER BY 2 DESC LIMIT $4
"""
_STORE = """
    INSERT INTO experiment_segments (experiment_no, segmentation_version, segment_key, segment_no, retired)
    SELECT $1, $2, * FROM unnest($3::text[], $4::int[], $5::boolean[])
    ON CONFLICT (experiment_no, segmentation_version, segment_no) DO UPDATE SET retired = excluded.retired
        WHERE experiment_segments.retired <> excluded.retired
"""
_NOTE_ACTIVITY = """
    INSERT INTO experiment_activity AS a
    SELECT experiment_no, max(assigned_at), max(converted_at)
    FROM unnest($1::int[], $2::timestamptz[], $3::timestamptz[]) AS t (experiment_no, assigned_at, converted_at)
    GROUP BY 1 ORDER BY 1
    ON CONFLICT (experiment_no) DO UPDATE SET
        last_assignment_at = greatest(a.last_assignment_at, excluded.last_assignment_at),
        last_conversion_at = greatest(a.last_conversion_at, excluded.last_conversion_at)
"""


class LastActivity(NamedTuple):
    """When a user was assigned last, and when one converted last in the primary metric."""

    assigned_at: datetime | None
    converted_at: datetime | None


class _Activity(NamedTuple):
    experiment: int
    assigned_at: datetime | None
    converted_at: datetime | None


async def segmented(connection: Connection) -> list[str]:
    """Return the ids of the running experiments that are segmented by dimensions."""
    return [row["experiment_id"] for row in await connection.fetch(_SEGMENTED)]


async def users_since(connection: Connection, experiment: Experiment, day: date) -> int:
    """Return how many users were assigned from that day on."""
    users: int = await connection.fetchval(
        """
        SELECT coalesce(sum(trials), 0)::bigint FROM segment_counts
        WHERE experiment_no = $1 AND segmentation_version = $2 AND day >= $3
        """,
        experiment.number,
        experiment.segmentation_version,
        day,
    )
    return users


async def recent_segments(
    connection: Connection, experiment: Experiment, since: datetime, *, limit: int, share: float = 1.0
) -> dict[str, int]:
    """Return the segment keys that most contexts since then have, with the number of users of each.

    What segment users were answered does not matter. share: of the users who are counted, for all others too; users
    are chosen by their keys, which are random.
    """
    of_256 = min(256, max(1, round(256 * share)))
    rows = await connection.fetch(_RECENT, experiment.number, experiment.segmentation.segment_by, since, limit, of_256)
    return {row["segment_key"]: row["users"] for row in rows}


async def store_segments(
    connection: Connection, experiment: Experiment, active: Mapping[str, int], retired: Mapping[str, int]
) -> None:
    """Store the segments of the registry, so that it can be restored."""
    keys, numbers = [*active, *retired], [*active.values(), *retired.values()]
    flags = [False] * len(active) + [True] * len(retired)
    await connection.execute(_STORE, experiment.number, experiment.segmentation_version, keys, numbers, flags)


async def add_visitors(connection: Connection, visitors: Mapping[tuple[int, date], int]) -> None:
    """Add users who were not seen before on the day, by experiment number and day."""
    await connection.executemany(
        """
        INSERT INTO experiment_traffic_stats AS s (experiment_no, day, visitors) VALUES ($1, $2, $3)
        ON CONFLICT (experiment_no, day) DO UPDATE SET visitors = s.visitors + excluded.visitors
        """,
        _in_order(visitors),
    )


async def note_activity(
    connection: Connection, assigned: Iterable[tuple[int, datetime]], converted: Iterable[tuple[int, datetime]]
) -> None:
    """Note when users were assigned and converted, by experiment number."""
    times = [_Activity(number, at, None) for number, at in assigned]
    times += [_Activity(number, None, at) for number, at in converted]
    await connection.execute(_NOTE_ACTIVITY, *columns(times, "experiment", "assigned_at", "converted_at"))


async def activity(connection: Connection, experiment_number: int) -> LastActivity:
    """Return when an experiment was last heard of."""
    row = await connection.fetchrow(
        "SELECT last_assignment_at, last_conversion_at FROM experiment_activity WHERE experiment_no = $1",
        experiment_number,
    )
    if row is None:
        return LastActivity(None, None)
    return LastActivity(row["last_assignment_at"], row["last_conversion_at"])


async def visitors(connection: Connection, experiment_number: int, first: date, end: date) -> dict[date, int]:
    """Return the distinct users of each day from `first` to before `end`; days without any are left out."""
    rows = await connection.fetch(
        "SELECT day, visitors FROM experiment_traffic_stats"
        " WHERE experiment_no = $1 AND day >= $2 AND day < $3 AND visitors > 0 ORDER BY day",
        experiment_number,
        first,
        end,
    )
    return {row["day"]: row["visitors"] for row in rows}


async def add_bot_requests(connection: Connection, requests: Mapping[tuple[int, date], int]) -> None:
    """Add requests of bots, by experiment number and day. Those of experiments that are not here are dropped."""
    await connection.executemany(
        """
        INSERT INTO experiment_traffic_stats AS s (experiment_no, day, bot_requests)
        SELECT $1, $2, $3 WHERE EXISTS (SELECT FROM experiments WHERE experiment_no = $1)
        ON CONFLICT (experiment_no, day) DO UPDATE SET bot_requests = s.bot_requests + excluded.bot_requests
        """,
        _in_order(requests),
    )


def _in_order(daily: Mapping[tuple[int, date], int]) -> list[tuple[int, date, int]]:
    """Sort the rows, so that writers cannot wait for each other in a ring."""
    return sorted((number, day, count) for (number, day), count in daily.items())


async def bot_requests(connection: Connection, experiment_number: int) -> int:
    """Return how many requests bots have made for an experiment."""
    requests: int = await connection.fetchval(
        "SELECT coalesce(sum(bot_requests), 0)::bigint FROM experiment_traffic_stats WHERE experiment_no = $1",
        experiment_number,
    )
    return requests
