"""Each alert is raised once and resolves itself, healthy data raise none, and calls show alerts."""

import uuid
from collections.abc import AsyncIterator, Sequence
from datetime import date, timedelta
from typing import Any

import asyncpg
import pytest
from grpc import StatusCode as Code
from redis.asyncio import Redis
from samplit.admin.v1 import alert_service_pb2, experiment_pb2
from samplit.allocation.v1 import allocation_service_pb2 as pb
from samplit.allocation.v1 import context_pb2

from server.alerts.faults import Faults
from server.alerts.watch import AlertWatch
from storage.postgres.counts import traffic
from storage.postgres.operations import alerts
from storage.postgres.operations.alerts import AlertKind
from storage.postgres.pool import create_pool
from storage.redis import keys
from tests.conftest import Clock
from tests.support.clusters import clustered, trained
from tests.support.segmentation import allocate, convert
from tests.support.service import Service
from tests.support.status import refused

BY_SOURCE = experiment_pb2.SegmentationConfig(
    mode=experiment_pb2.SEGMENTATION_MODE_MANUAL, segment_by=["source"], min_samples_per_segment=0
)
KIND = {kind: alert_service_pb2.AlertKind.Value(f"ALERT_KIND_{kind.value}") for kind in AlertKind}


@pytest.fixture
async def pool(dsn: str) -> AsyncIterator[asyncpg.Pool]:
    pool = await create_pool(dsn, size=2)
    yield pool
    await pool.close()


@pytest.fixture
def watch(pool: asyncpg.Pool, redis: Redis, clock: Clock) -> AlertWatch:
    return AlertWatch(pool, redis, 1, clock, Faults(clock))


async def listed(service: Service, **wanted: Any) -> list[Any]:
    return list((await service.call("ListAlerts", **wanted)).alerts)


async def is_raised(watch: AlertWatch, service: Service, kind: AlertKind, key: str = "") -> str:
    """Check twice that this alert is raised, and only once. Return its summary."""
    for _ in range(2):
        await watch.run_once()
        (alert,) = await listed(service, open_only=True)
        assert (alert.kind, alert.key) == (KIND[kind], key)
    return str(alert.summary)


async def is_healthy(watch: AlertWatch, service: Service) -> None:
    await watch.run_once()
    assert await listed(service, open_only=True) == []


async def notices(pool: asyncpg.Pool) -> list[tuple[str, str]]:
    rows = await pool.fetch("SELECT kind, subject FROM notifications ORDER BY notification_no")
    return [(row["kind"], row["subject"]) for row in rows]


def users(names: Sequence[str], source: str = "google") -> list[pb.AllocateUserRequest]:
    web = context_pb2.WebContext(utm_source=source)
    return [pb.AllocateUserRequest(experiment_id="cta", user_identifier=name, web=web) for name in names]


async def test_a_segment_that_underperforms(
    service: Service, worker: None, watch: AlertWatch, pool: asyncpg.Pool
) -> None:
    await service.running(segmentation=BY_SOURCE)
    answers = {
        source: await allocate(service, users([f"{source}-{n}" for n in range(300)], source))
        for source in ("google", "instagram", "newsletter")
    }
    for source, share in (("google", 3), ("newsletter", 3), ("instagram", 8)):
        await convert(service, answers[source][::share])
    await service.learned("cta", 900, 100 + 100 + 38)
    await is_healthy(watch, service)  # 12.7 % is less than half of 26.4 %, but may be chance
    more = await allocate(service, users([f"more-{n}" for n in range(1_500)], "instagram"))
    await convert(service, more[::60])
    await service.learned("cta", 2_400, 263)
    summary = await is_raised(watch, service, AlertKind.SEGMENT_UNDERPERFORMS, "source:instagram")
    assert summary == "3.50 % of users in Instagram convert (63 of 1,800), less than half of the 10.96 % of all users"
    await convert(service, more[1::60])
    await service.learned("cta", 2_400, 288)  # 4.9 % is less than half of 12 %, but may be chance
    assert await is_raised(watch, service, AlertKind.SEGMENT_UNDERPERFORMS, "source:instagram") == summary
    await convert(service, more[2::15])
    await service.learned("cta", 2_400, 388)
    await is_healthy(watch, service)
    assert await notices(pool) == [
        ("ALERT_RAISED", f"CTA: {summary}"),
        ("ALERT_RESOLVED", f"CTA: resolved: {summary}"),
    ]
    (alert,) = await listed(service, experiment_id="cta")
    assert alert.HasField("resolved_at")


async def test_a_cluster_model_that_is_old(service: Service, worker: None, watch: AlertWatch, clock: Clock) -> None:
    await clustered(service)
    await is_healthy(watch, service)
    clock.advance(days=7, minutes=30)  # a training is due
    await is_healthy(watch, service)
    clock.advance(hours=2)
    assert "cluster model 1 was trained on" in await is_raised(watch, service, AlertKind.CLUSTER_MODEL_OLD)
    await service.call("TrainClusterModel", experiment_id="cta")
    await trained(service)
    await is_healthy(watch, service)


async def test_variants_that_are_not_shown_as_they_were_drawn(
    service: Service, worker: None, watch: AlertWatch, clock: Clock, pool: asyncpg.Pool
) -> None:
    await service.running()
    await watch.run_once()  # the alert watch has checked it
    for day in range(3):
        await allocate(service, users([f"u{day}-{n}" for n in range(300)]))
        clock.advance(hours=8)
    await service.learned("cta", 900)
    await is_healthy(watch, service)
    await pool.execute("DELETE FROM assignments WHERE variant_no = 1 AND get_byte(user_key, 0) < 200")
    await is_healthy(watch, service)  # it was checked today
    clock.advance(days=1)
    assert "(p = " in await is_raised(watch, service, AlertKind.SAMPLE_RATIO_MISMATCH)
    clock.advance(hours=23)
    await is_raised(watch, service, AlertKind.SAMPLE_RATIO_MISMATCH)
    clock.advance(days=7)
    await is_healthy(watch, service)


async def test_events_that_wait(service: Service, watch: AlertWatch, redis: Redis, pool: asyncpg.Pool) -> None:
    await service.running()
    await service.allocate("cta", "u")
    await is_healthy(watch, service)
    seconds, _ = await redis.time()
    await redis.delete(keys.stream(0))
    await redis.xadd(keys.stream(0), {"1": b"x"}, id=f"{(seconds - 3600) * 1000}-0")
    summary = await is_raised(watch, service, AlertKind.DRAIN_LAG)
    assert summary.startswith("the oldest event has waited 3,60")
    assert [alert.experiment_id for alert in await listed(service)] == [""]
    assert await listed(service, experiment_id="cta") == []
    await redis.delete(keys.stream(0))
    await is_healthy(watch, service)
    assert [subject for _, subject in await notices(pool)] == [f"Samplit: {summary}", f"Samplit: resolved: {summary}"]


async def test_a_redis_without_append_only_file(service: Service, watch: AlertWatch, redis: Redis) -> None:
    await redis.config_set("appendonly", "no")
    try:
        assert "keeps no append-only file" in await is_raised(watch, service, AlertKind.VOLATILE_REDIS)
    finally:
        await redis.config_set("appendonly", "yes")
    await is_healthy(watch, service)


async def test_a_surge_of_bots(service: Service, watch: AlertWatch, clock: Clock, pool: asyncpg.Pool) -> None:
    """300 bot requests a day are usual. Days are those of the experiment's time zone."""
    clock.now = clock.now.replace(hour=20)  # the next day in Tokyo
    today = (clock.now + timedelta(hours=9)).date()
    for experiment_id in ("cta", "calm"):
        await service.running(experiment_id=experiment_id, time_zone="Asia/Tokyo")
    await pool.execute("UPDATE experiments SET started_at = $1", clock.now - timedelta(days=30))

    async def add(number: int, day: date, bots: int, visitors: int) -> None:
        async with pool.acquire() as connection:
            await traffic.add_bot_requests(connection, {(number, day): bots})
            await traffic.add_visitors(connection, {(number, day): visitors})

    for number in (1, 2):
        for before in range(1, 9):
            await add(number, today - timedelta(before), 300, 2_000)
    await add(2, today, 1_499, 1_000)
    await add(1, today, 1_500, 1_000)  # no more than five times the usual number
    await is_healthy(watch, service)
    await add(1, today, 0, 700)
    await add(1, today, 100, 0)
    await is_healthy(watch, service)  # no more than there are visitors
    await add(1, today, 200, 0)
    assert await is_raised(watch, service, AlertKind.BOT_SURGE) == (
        "bots have sent 1,800 requests today, against 300 on a usual day and 1,700 visitors today"
    )
    await add(1, today, 0, 5_000)
    await is_raised(watch, service, AlertKind.BOT_SURGE)
    clock.advance(days=1)
    await is_healthy(watch, service)
    await add(1, today + timedelta(1), 999, 0)
    await is_healthy(watch, service)


async def test_conversions_that_stop(service: Service, worker: None, watch: AlertWatch, clock: Clock) -> None:
    """Usually 100 of 200 users a day convert. A night without users raises no alert, nor do users of one moment."""
    await service.running()
    clock.advance(days=1)
    answers = await allocate(service, users([f"u{n}" for n in range(200)]))
    await convert(service, answers[::2])
    await service.learned("cta", 200, 100)
    clock.advance(minutes=10)
    await allocate(service, users([f"rush-{n}" for n in range(60)]))
    await service.learned("cta", 260, 100)
    await is_healthy(watch, service)
    await convert(service, answers[1:2])
    await service.learned("cta", 260, 101)
    clock.advance(hours=10)
    await is_healthy(watch, service)
    await allocate(service, users([f"few-{n}" for n in range(30)]))
    await service.learned("cta", 290, 101)
    await is_healthy(watch, service)
    await allocate(service, users([f"many-{n}" for n in range(60)]))
    await service.learned("cta", 350, 101)
    assert "no user has converted since" in await is_raised(watch, service, AlertKind.CONVERSIONS_STOPPED)
    clock.advance(days=20)
    await is_raised(watch, service, AlertKind.CONVERSIONS_STOPPED)
    await service.convert(user_identifier="few-1", experiment_id="cta", event_id="e")
    await allocate(service, users(["after"]))
    await service.learned("cta", 351, 102)
    await is_healthy(watch, service)


async def test_what_is_not_running_has_no_alerts(
    service: Service, watch: AlertWatch, clock: Clock, pool: asyncpg.Pool
) -> None:
    await service.running()
    async with pool.acquire() as connection:
        await traffic.add_bot_requests(connection, {(1, clock.now.date()): 5_000})
    await is_raised(watch, service, AlertKind.BOT_SURGE)
    async with pool.acquire() as connection:
        await alerts.report(connection, 1, AlertKind.AUTO_ACTIVATION_FAILED, "", "could not", clock.now)
    await watch.run_once()
    assert len(await listed(service, open_only=True)) == 2
    await service.call("PauseExperiment", experiment_id="cta")
    await is_healthy(watch, service)


async def test_one_worker_looks(service: Service, watch: AlertWatch, redis: Redis, dsn: str) -> None:
    await redis.xadd(keys.stream(0), {"1": b"x"}, id="1000-0")
    other = await create_pool(dsn, size=1)
    async with other.acquire() as connection:
        await connection.execute("SELECT pg_advisory_lock($1)", 0x5A3B1B)
        await is_healthy(watch, service)
        await connection.execute("SELECT pg_advisory_unlock_all()")
    await is_raised(watch, service, AlertKind.DRAIN_LAG)
    await other.close()


async def test_a_check_that_fails_leaves_the_others(service: Service, pool: asyncpg.Pool, clock: Clock) -> None:
    """While Redis is away its own alert does not change, and bots are still checked."""
    await service.running()
    async with pool.acquire() as connection:
        await alerts.report(connection, None, AlertKind.DRAIN_LAG, "", "events wait", clock())
        await traffic.add_bot_requests(connection, {(1, clock.now.date()): 5_000})
    away = Redis.from_url("redis://127.0.0.1:1")
    await AlertWatch(pool, away, 1, clock, Faults(clock)).run_once()
    kinds = {alert.kind for alert in await listed(service, open_only=True)}
    assert kinds == {KIND[AlertKind.DRAIN_LAG], KIND[AlertKind.BOT_SURGE]}
    await away.aclose()


async def test_acknowledging(service: Service, watch: AlertWatch, clock: Clock, pool: asyncpg.Pool) -> None:
    await service.running()
    async with pool.acquire() as connection:
        await traffic.add_bot_requests(connection, {(1, clock.now.date()): 5_000})
    await watch.run_once()
    (alert,) = await listed(service)
    first_at = clock.now
    for _ in range(2):
        answered = (await service.call("AcknowledgeAlert", alert_id=alert.alert_id)).alert
        assert answered.acknowledged_by == service.key.split("_")[1]
        assert answered.acknowledged_at.ToDatetime(first_at.tzinfo) == first_at
        assert not answered.HasField("resolved_at")
        clock.advance(minutes=1)
    (event,) = (await service.call("ListAuditEvents", action_prefix="alert.")).events
    assert (event.action, event.experiment_id) == ("alert.acknowledge", "cta")
    assert (event.after["alert_id"], event.after["kind"]) == (alert.alert_id, "BOT_SURGE")
    await watch.run_once()
    assert [a.acknowledged_by for a in await listed(service, open_only=True)] == [answered.acknowledged_by]


async def test_lists_go_in_pages(service: Service, clock: Clock, pool: asyncpg.Pool) -> None:
    await service.running()
    async with pool.acquire() as connection:
        for n in range(5):
            await alerts.report(connection, 1, AlertKind.SEGMENT_UNDERPERFORMS, f"source:{n}", f"{n}", clock())
        assert not await alerts.report(connection, 1, AlertKind.SEGMENT_UNDERPERFORMS, "source:0", "again", clock())
        assert await alerts.report(connection, 1, AlertKind.SEGMENT_UNDERPERFORMS, "source:3", None, clock())
        assert not await alerts.report(connection, 1, AlertKind.SEGMENT_UNDERPERFORMS, "source:3", None, clock())
    first = await service.call("ListAlerts", page_size=3, experiment_id="cta")
    rest = await service.call("ListAlerts", page_size=3, experiment_id="cta", page_token=first.next_page_token)
    assert [alert.summary for alert in (*first.alerts, *rest.alerts)] == ["4", "3", "2", "1", "0"]
    assert rest.next_page_token == ""
    assert [alert.summary for alert in await listed(service, open_only=True)] == ["4", "2", "1", "0"]
    other = await refused(service.call("ListAlerts", page_size=3, open_only=True, page_token=first.next_page_token))
    assert (other.code, other.fields) == (Code.INVALID_ARGUMENT, ["page_token"])


@pytest.mark.parametrize(
    ("method", "fields", "code", "reason", "wrong"),
    [
        ("AcknowledgeAlert", {"alert_id": "x"}, Code.INVALID_ARGUMENT, "INVALID_FIELD", ["alert_id"]),
        ("AcknowledgeAlert", {}, Code.INVALID_ARGUMENT, "INVALID_FIELD", ["alert_id"]),
        ("AcknowledgeAlert", {"alert_id": str(uuid.UUID(int=7))}, Code.NOT_FOUND, "ALERT_NOT_FOUND", []),
        ("ListAlerts", {"page_size": -1}, Code.INVALID_ARGUMENT, "INVALID_FIELD", ["page_size"]),
        ("ListAlerts", {"page_token": "x"}, Code.INVALID_ARGUMENT, "INVALID_FIELD", ["page_token"]),
        ("ListAlerts", {"experiment_id": "X"}, Code.INVALID_ARGUMENT, "INVALID_FIELD", ["experiment_id"]),
        ("ListAlerts", {"experiment_id": "nowhere"}, Code.NOT_FOUND, "EXPERIMENT_NOT_FOUND", []),
    ],
)
async def test_bad_input(
    service: Service, method: str, fields: dict[str, Any], code: Code, reason: str, wrong: list[str]
) -> None:
    refusal = await refused(service.call(method, **fields))
    assert (refusal.code, refusal.reason, refusal.fields) == (code, reason, wrong)
