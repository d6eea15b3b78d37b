"""Counts by dimension, which recommendations are computed from: complete, and bounded."""

import asyncio
from typing import Any

from storage.postgres.counts import dimensions
from storage.postgres.pool import connect
from tests.conftest import Clock
from tests.support.days import CROSSOVER, Person, of_sources
from tests.support.recommendations import (
    STRONG,
    begin,
)
from tests.support.service import Service
from tests.support.waiting import PATIENCE_SECONDS


async def test_the_stream_is_counted_by_dimension_once(service: Service, worker: None, clock: Clock, dsn: str) -> None:
    days = await begin(service, clock)
    await days.day(600, CROSSOVER, parts=2)
    await days.day(300, CROSSOVER, parts=1)
    for user in range(50):  # the users return on the third day, twice
        for _ in range(2):
            await service.allocate("cta", f"u{user}")
    connection = await connect(dsn)
    async with asyncio.timeout(PATIENCE_SECONDS):
        while await connection.fetchval("SELECT visitors FROM experiment_traffic_stats ORDER BY day DESC LIMIT 1") < 50:
            await asyncio.sleep(0.02)
    rows = await connection.fetch(
        "SELECT dimension, day, sum(visitors)::int AS visitors, sum(trials)::int AS trials,"
        " sum(successes)::int AS successes FROM dimension_counts GROUP BY 1, 2 ORDER BY 1, 2"
    )
    for dimension in ("", "source", "device", "country", "channel", "hour"):
        own = [row for row in rows if row["dimension"] == dimension]
        assert [(row["visitors"], row["trials"]) for row in own] == [(600, 600), (300, 300), (50, 0)]
        assert sum(row["successes"] for row in own) == days.conversions
    assert await dimensions.differences(connection) == 0
    await connection.execute("UPDATE dimension_counts SET trials = trials + 1 WHERE value = 'instagram'")
    assert await dimensions.differences(connection) > 0
    await dimensions.repair(connection)
    assert await dimensions.differences(connection) == 0
    await connection.close()


async def test_values_are_bounded_and_nothing_is_lost(service: Service, worker: None, clock: Clock, dsn: str) -> None:
    days = await begin(service, clock)
    await days.part(900, of_sources({f"source{n}": {"control": 0.5, "b": 0.5} for n in range(400)}))
    await days.part(300, of_sources({"late": {"control": 0.5, "b": 0.5}}))
    connection = await connect(dsn)
    values = await connection.fetch(
        "SELECT value, sum(trials)::int AS trials, sum(successes)::int AS successes FROM dimension_counts"
        " WHERE dimension = 'source' GROUP BY 1"
    )
    assert len(values) <= 101
    assert "other" in {row["value"] for row in values}
    assert sum(row["trials"] for row in values) == 1_200
    assert sum(row["successes"] for row in values) == days.conversions
    assert await dimensions.differences(connection) == 0
    await connection.close()


async def test_dimensions_are_bounded(service: Service, worker: None, clock: Clock, dsn: str) -> None:
    days = await begin(service, clock)

    def sloppy(_rng: Any, users: int) -> list[Person]:
        names = ((f"session_{user}_{n}" for n in range(20)) for user in range(users))
        return [Person({"control": 0.5, "b": 0.5}, attributes=dict.fromkeys(each, "x")) for each in names]

    await days.part(60, sloppy)
    await days.part(200, STRONG)
    connection = await connect(dsn)
    found = await connection.fetch("SELECT DISTINCT dimension FROM dimension_counts")
    assert len(found) <= 64
    assert {"", "channel", "hour"} <= {row["dimension"] for row in found}
    everyone = await connection.fetchval("SELECT sum(trials)::int FROM dimension_counts WHERE dimension = ''")
    assert everyone == 260
    assert await dimensions.differences(connection) == 0
    await connection.close()
