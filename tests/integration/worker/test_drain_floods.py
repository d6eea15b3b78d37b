"""Values, names and batches of any number: the time that PostgreSQL takes stays in proportion to the events."""

import os
from collections import Counter
from datetime import UTC, date, datetime, timedelta

from storage.postgres.counts import dimension_tally, dimensions
from storage.postgres.counts.dimension_tally import MOST_DIMENSIONS, MOST_VALUES, Assigned, Tally
from tests.support.event_log import Log

_USERS, _DIMENSIONS = 5_000, 10  # 50,000 values, each of its own
_STATEMENT_LIMIT = "SET statement_timeout = '2s'"  # PostgreSQL itself measures, so a busy machine does no harm


def random_context(names: list[str]) -> dict[str, str]:
    return {name: os.urandom(6).hex() for name in names}


async def test_a_batch_with_a_flood_of_values_is_stored_in_time(log: Log) -> None:
    await log.connection.execute(_STATEMENT_LIMIT)
    names = [f"d{n}" for n in range(_DIMENSIONS)]
    users = [log.assigned(n, variant=n % 3, context=random_context(names)) for n in range(_USERS)]
    await log.write(users)
    await log.write([log.converted(n) for n in range(_USERS)])
    rows = await log.connection.fetch(
        "SELECT dimension, count(DISTINCT value)::int AS values, sum(trials)::int AS trials,"
        " sum(successes)::int AS successes FROM dimension_counts GROUP BY 1"
    )
    assert {row["dimension"] for row in rows} == {"", *names}
    assert {(row["trials"], row["successes"]) for row in rows} == {(_USERS, _USERS)}
    assert max(row["values"] for row in rows) == MOST_VALUES + 1


async def test_a_batch_with_a_flood_of_names_is_stored_in_time(log: Log) -> None:
    await log.connection.execute(_STATEMENT_LIMIT)
    await log.write(
        [log.assigned(n, context=random_context([os.urandom(6).hex() for _ in range(10)])) for n in range(_USERS)]
    )
    assert await log.connection.fetchval("SELECT count(DISTINCT dimension) FROM dimension_counts") == MOST_DIMENSIONS


async def test_the_most_frequent_new_values_are_kept_and_known_ones_stay(log: Log) -> None:
    """Against a plain count of the same batches, in which each day has room for so many values."""
    today = datetime.fromtimestamp(log.now, UTC).date()
    expected: Counter[str] = Counter()
    kept: set[str] = set()
    for batch in range(3):
        sizes = {f"v{batch}-{n}": 1 + n % 7 for n in range(60)} | dict.fromkeys(sorted(kept)[:10], 2)
        tally = Tally()
        for value, users in sizes.items():
            tally.assigned(Assigned(log.experiment, today, 0), [{"x": value}] * users)
        await dimension_tally.add(log.connection, tally)
        ranked = sorted((value for value in sizes if value not in kept), key=lambda value: (-sizes[value], value))
        kept |= set(ranked[: max(0, MOST_VALUES - len(kept))])
        expected.update({value if value in kept else "other": 0 for value in sizes})
        for value, users in sizes.items():
            expected[value if value in kept else "other"] += users
    assert await trials_by_value(log, "x", today) == expected


async def test_a_success_of_a_day_that_is_not_kept_adds_nothing(log: Log) -> None:
    long_ago = datetime.fromtimestamp(log.now, UTC).date() - timedelta(days=dimensions.KEPT_DAYS + 1)
    tally = Tally()
    tally.converted(Assigned(log.experiment, long_ago, 0), [{"x": "a"}])
    await dimension_tally.add(log.connection, tally)
    assert await log.connection.fetchval("SELECT count(*) FROM dimension_counts") == 0


async def trials_by_value(log: Log, dimension: str, day: date) -> dict[str, int]:
    rows = await log.connection.fetch(
        "SELECT value, sum(trials)::int AS trials FROM dimension_counts WHERE (dimension, day) = ($1, $2) GROUP BY 1",
        dimension,
        day,
    )
    return {row["value"]: row["trials"] for row in rows}
