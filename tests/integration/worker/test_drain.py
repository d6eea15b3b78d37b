"""Events reach PostgreSQL: an event delivered twice counts once, and a bad event does not stop the others."""

import asyncio
from contextlib import suppress
from datetime import date
from typing import Any

import asyncpg
import msgspec
import pytest
from redis.asyncio import Redis

from allocator.experiment import Reason
from allocator.posterior.effective_trials import Count
from allocator.posterior.tables import posterior_tables
from server.runtime.worker import run_worker
from server.settings import Settings
from server.tasks import end, run_together
from server.worker.drain import Drain
from server.worker.shard_balance import ShardBalance
from storage.encryption import load_secrets
from storage.events import Event, encode_event
from storage.postgres.counts import dimensions, recount, traffic
from storage.postgres.events.labels import Labeller
from storage.postgres.experiments import posteriors
from storage.postgres.pool import connect
from storage.redis import keys, published
from storage.sealing import open_posterior
from tests.conftest import Clock
from tests.support.event_log import Log
from tests.support.service import Service
from tests.support.waiting import PATIENCE_SECONDS

STREAM = keys.stream(0)


async def test_delivered_twice_counted_once(log: Log) -> None:
    events = [log.assigned(1), log.assigned(2, 1), log.assigned(1), log.converted(2), log.converted(2)]
    for _ in range(2):
        await log.write(events)
    assert await log.counts() == [(0, 1, 0), (1, 1, 1)]


async def test_a_user_converts_once_for_the_primary_metric(log: Log) -> None:
    await log.write([log.assigned(1)])
    await log.write([log.converted(1, "a", metric="click")])
    assert await log.counts() == [(0, 1, 0)]
    await log.write([log.converted(1, "a"), log.converted(1, "b")])
    await log.write([log.converted(1, "c")])
    assert await log.counts() == [(0, 1, 1)]
    assert await log.connection.fetchval("SELECT count(*) FROM conversions") == 4


async def test_the_first_record_of_a_user_wins(log: Log) -> None:
    await log.write([log.assigned(1, 0)])
    await log.write([log.assigned(1, 2)])
    assert await log.counts() == [(0, 1, 0)]


async def test_a_visitor_counts_once_a_day(log: Log) -> None:
    events = [log.visited(1, 0), log.assigned(1), log.assigned(2), log.visited(1, 2), log.visited(1, 1)]
    for changed in ({log.experiment}, set()):
        assert await log.write(events) == changed
        assert await log.visitors() == {0: 2, 1: 1, 2: 1}
    await log.write([log.visited(2, 2), log.visited(2, 2), log.visited(1, 1), log.visited(3, 2)])
    assert await log.visitors() == {0: 2, 1: 1, 2: 2}
    await traffic.add_bot_requests(log.connection, {(log.experiment, date(1970, 1, 1)): 7})
    assert await log.visitors() == {0: 2, 1: 1, 2: 2, -log.today: 0}
    assert await log.counts() == [(0, 2, 0)]


async def test_a_day_is_the_experiments(log: Log) -> None:
    await log.connection.execute("UPDATE experiments SET time_zone = 'Pacific/Kiritimati'")
    evening = log.today * 86_400 + 43_200
    await log.write([log.assigned(1, assigned_at=evening), log.visited(1, 1), log.visited(1, 2)])
    assert await log.visitors() == {1: 1, 2: 1}


async def test_new_users_count_for_both_segmentations_and_their_cohorts(log: Log) -> None:
    await log.connection.execute("UPDATE experiments SET maturity_seconds = 3200")  # cohorts of 100 seconds
    await log.connection.execute(
        """
        INSERT INTO experiment_segments VALUES (1, 2, 7, 'source:y'), (1, 2, 8, 'source:z');
        INSERT INTO pending_segmentations VALUES (1, 2, 'MANUAL', '{source}', 'someone', now(), '\xff');
        """
    )
    start = log.now // 100 * 100
    events = [
        log.assigned(n, assigned_at=start + 50 * n, context={"source": source})
        for n, source in enumerate(["y", "y", "y", "z", 'other "€"'])
    ]
    await log.write(events)
    assert await recount.differences(log.connection) == []
    assert await dimensions.differences(log.connection) == 0
    counted = "SELECT segmentation_version, segment_no, sum(trials)::int FROM {} GROUP BY 1, 2 ORDER BY 1, 2"
    for table in ("segment_counts", "cohort_counts"):
        rows = await log.connection.fetch(counted.format(table))
        assert rows == [(1, 0, 5), (2, 1, 1), (2, 7, 3), (2, 8, 1)]
    cohorts = "SELECT cohort - $1, sum(trials)::int FROM cohort_counts WHERE segmentation_version = 1 GROUP BY 1"
    assert dict(await log.connection.fetch(cohorts, start // 100)) == {0: 2, 1: 2, 2: 1}
    sources = await log.connection.fetch("SELECT context ->> 'source' FROM assignments ORDER BY user_key")
    assert sources[-1][0] == 'other "€"'


@pytest.mark.parametrize(
    "fields",
    [
        {"variant": 2**40},
        {"variant": 99},
        {"experiment": 2**40},
        {"segment": 2**31},
        {"reason": 99},
        {"reason": Reason.BOT},
        {"group": 0},
        {"propensity": 0.0},
        {"context": {"source": "\0"}},
        {"assigned_at": 10**17},
        {"assigned_at": 2**63},
        {"user_key": b"short"},
    ],
    ids=str,
)
async def test_a_bad_assignment_is_refused_with_its_batch(log: Log, fields: dict[str, Any]) -> None:
    await refused(log, log.assigned(2, **fields))


async def test_what_has_no_time_is_refused_with_its_batch(log: Log) -> None:
    await refused(log, msgspec.structs.replace(log.converted(1), occurred_at=10**17))
    await refused(log, log.visited(1, 10**9))
    await refused(log, log.visited(1, 2**63))


async def refused(log: Log, event: Event) -> None:
    with pytest.raises((asyncpg.DataError, asyncpg.IntegrityConstraintViolationError)):
        await log.write([log.assigned(1), event])
    assert await log.counts() == []
    await log.write([])


async def test_a_bad_event_is_set_aside_and_the_rest_flows(
    log: Log, redis: Redis, dsn: str, settings: Settings
) -> None:
    counted: set[int] = set()
    good = [log.assigned(1), log.assigned(2), log.converted(2)]
    poison = [log.assigned(3, variant=99), log.assigned(4, experiment=12345), log.converted(77)]
    for events in ([good[0], poison[0], good[1]], [*poison[1:], good[2]]):
        await redis.xadd(STREAM, {str(n): encode_event(event) for n, event in enumerate(events)})
    await redis.xadd(STREAM, {"1": b"garbage", "2": encode_event(log.assigned(5))})
    task = asyncio.create_task(
        Drain(
            dsn,
            redis,
            0,
            settings,
            shard_balance=ShardBalance(dsn, 1),
            labeller=log.labeller,
            on_counts_changed=counted.update,
        ).run()
    )
    async with asyncio.timeout(PATIENCE_SECONDS):
        while await redis.xlen(STREAM):
            await asyncio.sleep(0.02)
    task.cancel()
    assert await log.counts() == [(0, 3, 1)]
    assert counted == {log.experiment}
    dead = [entry for _, entry in await redis.xrange(keys.dead_letters(0))]
    assert len(dead) == 4
    assert {entry[b"event"] for entry in dead} == {b"garbage", *(encode_event(event) for event in poison)}
    assert all(entry[b"reason"] for entry in dead)


async def test_one_worker_drains_and_another_takes_over(log: Log, redis: Redis, dsn: str, settings: Settings) -> None:
    drained: list[str] = []
    workers = {
        name: asyncio.create_task(
            Drain(
                dsn,
                redis,
                0,
                settings,
                shard_balance=ShardBalance(dsn, 1),
                labeller=log.labeller,
                on_counts_changed=lambda _, name=name: drained.append(name),
            ).run()
        )
        for name in ("one", "two")
    }

    async def feed(user: int) -> None:
        await redis.xadd(STREAM, {"1": encode_event(log.assigned(user))})
        async with asyncio.timeout(PATIENCE_SECONDS):
            while await redis.xlen(STREAM):
                await asyncio.sleep(0.02)

    for user in range(3):
        await feed(user)
    holder = drained[0]
    assert set(drained) == {holder}
    workers[holder].cancel()
    with suppress(asyncio.CancelledError):
        await workers[holder]
    await feed(3)
    assert drained[-1] != holder
    assert await log.counts() == [(0, 4, 0)]
    for worker in workers.values():
        worker.cancel()


async def test_the_tables_of_a_version_follow_from_the_log(
    service: Service, worker: None, dsn: str, clock: Clock
) -> None:
    """Each published version equals the one computed from the rows that were counted by then."""
    await service.running()
    secrets = load_secrets(service.settings.secrets_directory)
    connection = await connect(dsn)
    number = await connection.fetchval("SELECT experiment_no FROM experiments")
    for step in range(1, 4):
        for n in range(20):
            answer = await service.allocate("cta", f"u{step}-{n}")
            if n % 3 == 0:
                await service.convert(assignment_id=answer.assignment_id, event_id="e")
        await service.learned("cta", 20 * step, 7 * step)
        newest = await connection.fetchval("SELECT max(greatest(counted_version, converted_version)) FROM assignments")
        async with asyncio.timeout(PATIENCE_SECONDS):
            while (sealed := await posteriors.load(connection, number)) is None or sealed.version < newest:
                await asyncio.sleep(0.02)
        published = open_posterior(secrets, "cta", sealed.version, sealed.ciphertext)
        rows = await connection.fetch(
            """
            SELECT segment_no, variant_no, day, count(*), count(*) FILTER (WHERE converted_version <= $1)
            FROM assignments WHERE counted_version <= $1 GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
            """,
            sealed.version,
        )
        again = posterior_tables(sealed.version, 1, [0, 1, 2], [Count(*row) for row in rows])
        assert (again.alpha == published.alpha).all()
        assert (again.beta == published.beta).all()
    await connection.close()


async def test_counts_that_went_wrong_are_found_and_repaired(log: Log) -> None:
    await log.write([log.assigned(1), log.assigned(2, 1), log.converted(2)])
    assert await recount.differences(log.connection) == []
    assert await dimensions.differences(log.connection) == 0
    await log.connection.execute("UPDATE segment_counts SET trials = trials + 3 WHERE variant_no = 0")
    await log.connection.execute("DELETE FROM segment_counts WHERE variant_no = 1")
    found = await recount.differences(log.connection)
    assert [(each.variant, each.trials, each.successes) for each in found] == [(0, -3, 0), (1, 1, 1)]
    await log.write([log.assigned(3)])  # a user who arrives between comparison and repair
    await recount.repair(log.connection, found)
    assert await log.counts() == [(0, 2, 0), (1, 1, 1)]
    assert await recount.differences(log.connection) == []
    assert await dimensions.differences(log.connection) == 0


async def test_redis_is_refilled_with_what_was_published(
    service: Service, worker: None, redis: Redis, clock: Clock
) -> None:
    await service.running()
    await service.allocate("cta", "u1")
    await service.learned("cta", 1)

    secrets = load_secrets(service.settings.secrets_directory)

    async def read() -> tuple[Any, ...]:
        """Return what a server reads: ciphertexts themselves differ each time."""
        names = set(await redis.hkeys(keys.experiment("cta"))) - {b"#changes"}
        found = await published.load(redis, secrets, "cta")
        assert found is not None
        assert found.posterior is not None
        tables = found.posterior
        return names, found.experiment, tables.version, tables.alpha.tolist(), tables.beta.tolist(), tables.rows

    before = await read()
    await redis.delete(keys.experiment("cta"), keys.INDEX, keys.API_KEYS)
    ready = asyncio.Event()
    second = asyncio.create_task(run_worker(service.settings, clock, ready))
    await ready.wait()
    second.cancel()
    assert await read() == before
    assert await redis.exists(keys.INDEX, keys.API_KEYS) == 2


async def test_workers_share_the_shards(service: Service, dsn: str, redis: Redis, labeller: Labeller) -> None:
    """Two workers hold half of the shards each. When one ends, the other takes all."""
    settings = service.settings.model_copy(update={"shards": 4})
    balances, tasks = [], []
    for _ in range(2):
        balance = ShardBalance(dsn, 4)
        drains = [
            Drain(
                dsn, redis, shard, settings, shard_balance=balance, labeller=labeller, on_counts_changed=lambda _: None
            )
            for shard in range(4)
        ]
        balances.append(balance)
        tasks.append(asyncio.create_task(run_together(balance.run(), *(drain.run() for drain in drains))))

    async def held(*expected: int) -> None:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while tuple(balance.held for balance in balances) != expected:
                await asyncio.sleep(0.1)

    await held(2, 2)
    await end(tasks.pop(0))
    await held(0, 4)
    await end(*tasks)


async def test_a_conversion_by_a_clock_that_is_behind(log: Log) -> None:
    """A conversion dated before its assignment counts as right after it."""
    await log.connection.execute("UPDATE experiments SET maturity_seconds = 86400")
    await log.write([log.assigned(1, assigned_at=log.now + 2)])
    await log.write([log.converted(1)])
    row = await log.connection.fetchrow("SELECT converted_at - assigned_at AS delay FROM assignments")
    assert row is not None
    assert row["delay"].total_seconds() == 0
    assert await log.counts() == [(0, 1, 1)]
