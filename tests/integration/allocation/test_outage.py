"""Redis is slow, silent, gone, or back without its data. No user gets a second variant."""

import asyncio
import gc
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from redis.asyncio import Redis
from samplit.admin.v1 import experiment_pb2
from samplit.allocation.v1 import allocation_service_pb2 as pb
from samplit.allocation.v1 import context_pb2

from server.alerts.faults import Faults
from server.allocation.catalog import Catalog
from server.clock import system_clock
from server.publishing.publish import publish_current
from server.runtime.bootstrap import prepare_stores
from server.runtime.process import run_server
from server.runtime.worker import run_worker
from server.settings import Settings
from server.tasks import end
from server.worker.reconciler import Reconciler
from storage.engines.embedded import StoreUrls
from storage.postgres.experiments import experiments
from storage.postgres.pool import create_pool
from storage.redis import completeness, keys, published
from tests.support.proxy import Proxy
from tests.support.segmentation import drained
from tests.support.service import Service
from tests.support.status import refused
from tests.support.waiting import eventually

SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING


@pytest.fixture
async def proxy(engines: StoreUrls, short_directory: Path) -> AsyncIterator[Proxy]:
    proxy = await Proxy.start(short_directory / "proxy.sock", Path(urlsplit(engines.redis_url).path))
    yield proxy
    await proxy.stop()


@pytest.fixture
def settings(settings: Settings, dsn: str, proxy: Proxy) -> Settings:
    changed = settings.model_copy(update={"redis_timeout": 2.0, "poll_interval": 0.2})
    return changed.with_stores(dsn, proxy.url)


async def health(service: Service, name: str = "") -> Any:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{service.application.port}") as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        return (await stub.Check(health_pb2.HealthCheckRequest(service=name))).status


async def works(service: Service) -> bool:
    answer = await service.allocate("cta", f"probe-{time.monotonic()}")
    return bool(answer.assignment_state == pb.ASSIGNMENT_STATE_NEW)


async def test_while_redis_is_away(service: Service, worker: None, proxy: Proxy, redis: Redis) -> None:
    await service.running()
    strict = experiment_pb2.OUTAGE_POLICY_UNAVAILABLE
    created = await service.running(experiment_id="strict", on_outage=strict)
    assert created.on_outage == strict
    had = {f"u{n}": await service.allocate("cta", f"u{n}") for n in range(10)}
    await service.allocate("strict", "u0")
    await service.learned("cta", 10)
    service.application.data_plane.returning.clear()
    await proxy.go_away()
    await eventually(lambda: is_health(service, "samplit.redis", NOT_SERVING))
    assert (await health(service), await health(service, "samplit.postgres")) == (SERVING, SERVING)
    for user, before in had.items():
        answer = await service.allocate("cta", user)
        assert (answer.variant_id, answer.assignment_id) == (before.variant_id, before.assignment_id)
        assert (answer.reason, answer.assignment_state) == (before.reason, pb.ASSIGNMENT_STATE_EXISTING)
    answer = await service.allocate("cta", "newcomer")
    assert (answer.variant_id, answer.reason) == ("control", pb.REASON_DEGRADED)
    assert (answer.assignment_state, answer.assignment_id) == (pb.ASSIGNMENT_STATE_NONE, "")
    assert (await service.allocate("strict", "u0")).assignment_state == pb.ASSIGNMENT_STATE_EXISTING
    await refuses_what_is_new(service, "strict", "u0", (grpc.StatusCode.UNAVAILABLE, "STORE_UNAVAILABLE"))
    batch = pb.AllocateUsersRequest(
        requests=[pb.AllocateUserRequest(experiment_id=e, user_identifier=u) for e in ("cta", "strict") for u in "xy"]
    )
    items = (await service.allocation.AllocateUsers(batch, metadata=service.metadata)).items
    assert [item.status.code for item in items] == [0, 0, 14, 14]
    assert {item.allocation.reason for item in items[:2]} == {pb.REASON_DEGRADED}
    await proxy.come_back()
    await eventually(lambda: works(service))
    await eventually(lambda: is_health(service, "samplit.redis", SERVING))
    assert (await service.allocate("cta", "newcomer")).assignment_state == pb.ASSIGNMENT_STATE_NEW


async def is_health(service: Service, name: str, status: Any) -> bool:
    return bool(await health(service, name) == status)


async def test_returning_users_need_no_redis(service: Service, proxy: Proxy, clock: Any) -> None:
    await service.running()
    before = await service.allocate("cta", "u")
    await proxy.go_away()
    assert (await service.allocate("cta", "u")).variant_id == before.variant_id
    clock.advance(days=1)  # a user's first call of a day goes to Redis
    assert (await service.allocate("cta", "u")).reason == pb.REASON_DEGRADED


async def test_a_silent_redis_is_given_up_on(service: Service, proxy: Proxy) -> None:
    await service.running()
    assert await works(service)
    proxy.is_silent = True
    begin = time.monotonic()
    assert (await service.allocate("cta", "u")).reason == pb.REASON_DEGRADED
    assert time.monotonic() - begin < 3 * service.settings.redis_timeout
    proxy.is_silent = False
    proxy.cut()
    await eventually(lambda: works(service))


async def test_calls_end_at_their_deadline(service: Service, proxy: Proxy) -> None:
    await service.running()
    assert await works(service)
    proxy.delay = 0.4
    request = pb.AllocateUserRequest(experiment_id="cta", user_identifier="u")
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await service.allocation.AllocateUser(request, metadata=service.metadata, timeout=0.1)
    assert error.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    proxy.delay = 0.0
    await eventually(lambda: works(service))


async def test_a_half_closed_connection_is_replaced(service: Service, proxy: Proxy) -> None:
    await service.running()
    proxy.half_close()
    await eventually(lambda: works(service))


async def test_a_redis_that_lost_its_data_is_refilled(service: Service, worker: None, redis: Redis, dsn: str) -> None:
    """New segments get numbers after those that PostgreSQL knows. Users keep their variants, and conversions count."""
    segmentation = experiment_pb2.SegmentationConfig(
        mode=experiment_pb2.SEGMENTATION_MODE_MANUAL, segment_by=["source"], min_samples_per_segment=0
    )
    await service.running(segmentation=segmentation)

    async def visit(user: str, source: str) -> Any:
        return await service.allocate("cta", user, web=context_pb2.WebContext(utm_source=source))

    had = {f"u{n}": await visit(f"u{n}", f"s{n % 3}") for n in range(30)}
    await service.learned("cta", 30)
    await drained(redis)
    await redis.flushall()
    await redis.function_flush()
    await eventually(lambda: works(service))
    for user, before in had.items():
        answer = await visit(user, "elsewhere")
        assert (answer.variant_id, answer.segment_key) == (before.variant_id, before.segment_key)
        assert answer.assignment_state == pb.ASSIGNMENT_STATE_EXISTING
    assert (await visit("late", "s9")).segment_key == "source:s9"
    numbers = await redis.hgetall(keys.segments(1, 1))
    taken = [int(number) for key, number in numbers.items() if not key.startswith(b"#")]
    assert len(taken) == len(set(taken)) >= 4
    converted = await service.convert(user_identifier="u1", experiment_id="cta", event_id="e")
    assert converted.results[0].outcome == pb.CONVERSION_OUTCOME_RECORDED


async def test_nobody_is_assigned_before_the_records_are_back(service: Service, redis: Redis) -> None:
    """There is no worker to refill Redis. The server remembers API keys, and finds experiments in PostgreSQL."""
    await service.running()
    await service.allocate("cta", "u")
    await redis.flushall()
    await asyncio.sleep(3 * service.settings.poll_interval)
    assert (await service.allocate("cta", "new")).reason == pb.REASON_DEGRADED
    refusal = await refused(service.allocate("never-seen", "u"))
    assert refusal.code == grpc.StatusCode.NOT_FOUND
    assert not await redis.keys("{s*:a:*")


async def test_an_experiment_that_is_first_asked_for_during_an_outage(
    service: Service, worker: None, proxy: Proxy, redis: Redis, dsn: str
) -> None:
    """Its segments cannot be read, and still "global" is not registered as one of them."""
    await service.running()
    catalog = service.application.data_plane.catalog
    await proxy.go_away()
    assert (await service.allocate("cta", "before")).reason == pb.REASON_DEGRADED
    registry = catalog._registries[1, 1]
    registry.load, load = never, registry.load  # type: ignore[method-assign] # as if the poll were late
    await proxy.come_back()
    await eventually(lambda: works(service))
    registry.load = load  # type: ignore[method-assign]
    assert await redis.hget(registry.name, "global") is None
    results = await service.learned("cta", 1)
    assert [segment.segment_key for segment in results.segments] == ["global"]


async def never() -> None:
    raise ConnectionError


async def test_a_process_looks_again_only_while_records_are_stale(service: Service, worker: None) -> None:
    """A reply with the old epoch may arrive after the server adopted the new one."""
    records = service.application.data_plane.records
    records.stale.set()

    await eventually(lambda: not records.stale.is_set())


async def test_a_reconciliation_does_not_declare_what_was_lost_meanwhile_complete(
    service: Service, settings: Settings, dsn: str, redis: Redis, clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    await service.running()
    pool = await create_pool(dsn, size=1)
    reconciler = Reconciler(pool, redis, service.secrets, clock, lambda _: None, Faults(clock))
    await reconciler.run_once()
    assert await completeness.is_complete(redis)

    async def lost_meanwhile(numbers: Any) -> set[int]:
        await completeness.forget_all(redis)
        return await progress(numbers)

    progress = experiments.progress
    monkeypatch.setattr(experiments, "progress", lost_meanwhile)
    await reconciler.run_once()
    monkeypatch.undo()
    assert not await completeness.is_complete(redis)
    index = service.application.data_plane.catalog.index
    await service.application.data_plane.catalog.load_index()
    assert service.application.data_plane.catalog.index == index
    await reconciler.run_once()
    assert await completeness.is_complete(redis)
    assert await published.load_index(redis) == index
    await pool.close()


async def test_segments_are_restored_although_another_publisher_came_first(
    service: Service, settings: Settings, dsn: str, redis: Redis, clock: Any
) -> None:
    """The publisher of posteriors may write the newest versions into a Redis that has just lost everything."""
    segmentation = experiment_pb2.SegmentationConfig(
        mode=experiment_pb2.SEGMENTATION_MODE_MANUAL, segment_by=["source"], min_samples_per_segment=0
    )
    await service.running(segmentation=segmentation)
    pool = await create_pool(dsn, size=2)
    reconciler = Reconciler(pool, redis, service.secrets, clock, lambda _: None, Faults(clock))
    await reconciler.run_once()
    await redis.flushall()
    async with pool.acquire() as connection:
        await publish_current(connection, redis, service.secrets, "cta")
    await reconciler.run_once()
    assert await redis.hgetall(keys.segments(1, 1))
    await pool.close()


async def test_a_process_that_cannot_follow_ends(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(_: Catalog) -> None:
        raise RuntimeError("broken")

    await prepare_stores(settings, system_clock)
    monkeypatch.setattr(Catalog, "run", broken)
    thresholds = gc.get_threshold()
    try:
        with pytest.raises(RuntimeError, match="broken"):
            await run_server(settings, asyncio.Event(), asyncio.Event())
    finally:
        gc.unfreeze()
        gc.set_threshold(*thresholds)


async def test_a_stream_that_is_full(service: Service, redis: Redis, dsn: str, settings: Settings, clock: Any) -> None:
    """The stream has a million events. New users and conversions are refused; known users are answered."""
    await service.running()
    users = [pb.AllocateUserRequest(experiment_id="cta", user_identifier=f"u{n}") for n in range(50)]
    await service.allocation.AllocateUsers(pb.AllocateUsersRequest(requests=users), metadata=service.metadata)
    assert int(await redis.get(keys.waiting(0))) == 50
    await redis.set(keys.waiting(0), 1_000_000)
    service.application.data_plane.returning.clear()
    assert (await service.allocate("cta", "u7")).assignment_state == pb.ASSIGNMENT_STATE_EXISTING
    await is_full(service)
    await redis.set(keys.waiting(0), 50)
    ready = asyncio.Event()
    worker = asyncio.create_task(run_worker(settings, clock, ready))
    await service.learned("cta", 50)
    await drained(redis)
    assert await redis.get(keys.waiting(0)) is None
    await end(worker)


async def test_a_redis_that_is_out_of_memory(service: Service, worker: None, redis: Redis) -> None:
    await service.running()
    known = await service.allocate("cta", "u7")
    await service.learned("cta", 1)
    service.application.data_plane.returning.clear()
    await redis.config_set("maxmemory", 1)
    try:
        assert (await service.allocate("cta", "u7")).variant_id == known.variant_id  # answered from PostgreSQL
        await is_full(service)
    finally:
        await redis.config_set("maxmemory", 0)


async def refuses_what_is_new(
    service: Service, experiment_id: str, known: str, problem: tuple[grpc.StatusCode, str]
) -> None:
    """Check that a new user and a known user's conversion are refused."""
    for call in (
        service.allocate(experiment_id, "newcomer"),
        service.convert(user_identifier=known, experiment_id="cta", event_id="e"),
    ):
        refusal = await refused(call)
        assert (refusal.code, refusal.reason) == problem


async def is_full(service: Service) -> None:
    await refuses_what_is_new(service, "cta", "u7", (grpc.StatusCode.RESOURCE_EXHAUSTED, "BACKLOG_FULL"))
    batch = pb.AllocateUsersRequest(
        requests=[pb.AllocateUserRequest(experiment_id="cta", user_identifier=user) for user in ("u7", "newcomer")]
    )
    items = (await service.allocation.AllocateUsers(batch, metadata=service.metadata)).items
    assert [item.status.code for item in items] == [0, 8]
