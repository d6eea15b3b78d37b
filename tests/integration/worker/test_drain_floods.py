"""Values, names and batches of any number: the time that PostgreSQL takes stays in proportion to the events."""

import asyncio
import os
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, date, datetime, timedelta

import asyncpg
import pytest
from redis.asyncio import Redis
from structlog.testing import capture_logs

from server.alerts.faults import Faults
from server.alerts.watch import AlertWatch
from server.settings import Settings
from server.tasks import end
from server.worker.backlog import BacklogReporter
from server.worker.drain import Drain
from server.worker.shard_balance import ShardBalance
from storage.events import Event, encode_event
from storage.postgres.counts import dimension_tally, dimensions
from storage.postgres.counts.dimension_tally import MOST_DIMENSIONS, MOST_VALUES, Assigned, Tally
from storage.postgres.events import drain
from storage.postgres.events.labels import Labeller
from storage.postgres.operations.drain_activity import drain_activities
from storage.postgres.pool import Connection, create_pool
from storage.redis import keys, streams
from tests.conftest import Clock
from tests.support.event_log import Log
from tests.support.service import Service
from tests.support.waiting import PATIENCE_SECONDS

_USERS, _DIMENSIONS = 5_000, 10  # 50,000 values, each of its own
_STATEMENT_LIMIT = "SET statement_timeout = '2s'"  # PostgreSQL itself measures, so a busy machine does no harm


DrainOf = Callable[[int], AbstractAsyncContextManager[None]]


@pytest.fixture
def drain_of(dsn: str, redis: Redis, settings: Settings, log: Log) -> DrainOf:
    """Drain a shard while the block runs."""

    @asynccontextmanager
    async def run(shard: int) -> AsyncIterator[None]:
        one = Drain(
            dsn,
            redis,
            shard,
            settings,
            shard_balance=ShardBalance(dsn, 1),
            labeller=log.labeller,
            on_counts_changed=lambda _: None,
        )
        task = asyncio.create_task(one.run())
        yield
        await end(task)

    return run


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


@pytest.mark.parametrize("sizes", [[1] * 40, [256] * 6, [1] * 30 + [256] * 6, [300, 1, 1]], ids=str)
async def test_a_batch_is_bounded_by_events(redis: Redis, log: Log, sizes: list[int]) -> None:
    for number, size in enumerate(sizes):
        events = {str(n): encode_event(log.assigned(1_000 * number + n)) for n in range(size)}
        await redis.xadd(keys.stream(0), events)
    taken: list[int] = []
    while entries := await streams.read(redis, 0, events=256):
        found = sum(len(entry.events) for entry in entries)
        assert found <= 256 or len(entries) == 1
        taken += [len(entry.events) for entry in entries]
        await streams.forget(redis, 0, entries)
    assert taken == sizes


async def test_a_statement_that_takes_too_long_halves_the_batch(
    log: Log, redis: Redis, drain_of: DrainOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    write = drain.write

    async def slow(connection: Connection, events: Sequence[Event], labeller: Labeller) -> set[int]:
        sizes.append(len(events))
        if len(events) > 3:
            raise asyncpg.QueryCanceledError("canceling statement due to statement timeout")
        return await write(connection, events, labeller)

    monkeypatch.setattr(drain, "write", slow)
    await redis.xadd(keys.stream(0), {str(n): encode_event(log.assigned(n)) for n in range(10)})
    async with drain_of(0):
        await drained(redis)
    assert max(sizes) == 10
    assert await log.counts() == [(0, 10, 0)]
    assert not await redis.xlen(keys.dead_letters(0))


async def test_an_event_that_nobody_foresaw_is_found_among_many_and_set_aside(
    log: Log, redis: Redis, drain_of: DrainOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes a few tries, not one for each event."""
    tries = 0
    write = drain.write
    bad = log.assigned(700)

    async def fail(connection: Connection, events: Sequence[Event], labeller: Labeller) -> set[int]:
        nonlocal tries
        tries += 1
        if bad in events:
            raise KeyError("nobody foresaw this")
        return await write(connection, events, labeller)

    monkeypatch.setattr(drain, "write", fail)
    await redis.xadd(keys.stream(0), {str(n): encode_event(log.assigned(n)) for n in range(1_000)})
    async with drain_of(0):
        await drained(redis)
    assert await log.counts() == [(0, 999, 0)]
    ((_, dead),) = await redis.xrange(keys.dead_letters(0))
    assert dead[b"event"] == encode_event(bad)
    assert tries <= 25


async def test_events_that_wait_are_logged_with_what_the_drain_does(redis: Redis, log: Log) -> None:
    seconds, _ = await redis.time()
    await redis.xadd(keys.stream(0), {"1": encode_event(log.assigned(1))}, id=f"{(seconds - 90) * 1000}-0")
    reporter = BacklogReporter(redis, 0)
    with capture_logs() as logs:
        await reporter.report()
        assert not logs  # another worker drains the shard
        reporter.start_reporting()
        reporter.note_activity("storing 1 events in PostgreSQL")
        for _ in range(2):
            await reporter.report()
    (line,) = logs
    assert (line["event"], line["shard"]) == ("events wait to be stored", 0)
    assert line["drain"] == "storing 1 events in PostgreSQL"
    assert 90 <= line["oldest_seconds"] < 100


async def test_the_alert_says_what_the_drain_does(
    service: Service, redis: Redis, log: Log, dsn: str, clock: Clock, drain_of: DrainOf
) -> None:
    """Another session holds the experiment, so the drain waits for it."""
    seconds, _ = await redis.time()
    await redis.xadd(keys.stream(0), {"1": encode_event(log.assigned(1))}, id=f"{(seconds - 90) * 1000}-0")
    pool = await create_pool(dsn, size=2)
    watch = AlertWatch(pool, redis, 1, clock, Faults(clock))
    await watch.run_once()
    (alert,) = (await service.call("ListAlerts", open_only=True)).alerts
    assert alert.summary.endswith("meanwhile: no worker drains the shard")
    async with log.connection.transaction():
        await log.connection.execute("SELECT FROM experiments FOR UPDATE")
        async with drain_of(0):
            async with asyncio.timeout(PATIENCE_SECONDS):
                while "for a lock" not in str((await drain_activities(pool)).get(0)):
                    await asyncio.sleep(0.02)
            activity = str((await drain_activities(pool))[0])
    assert "for a lock, in 'SELECT FROM experiments WHERE" in activity
    await pool.close()


async def drained(redis: Redis) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while await redis.xlen(keys.stream(0)):
            await asyncio.sleep(0.02)
