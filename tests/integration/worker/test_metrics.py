"""Every metric changes with what it counts. Metrics last for the whole session, so tests compare differences."""

import asyncio
import math

import grpc
import pytest
from prometheus_client import REGISTRY
from redis.asyncio import Redis
from samplit.allocation.v1 import allocation_service_pb2 as pb
from samplit.allocation.v1 import context_pb2

from server.allocation.coalescer import Ticket
from server.settings import Settings
from server.worker.backlog import BacklogReporter
from server.worker.drain import Drain
from server.worker.shard_balance import ShardBalance
from storage.postgres.events.labels import Labeller
from storage.redis import keys
from tests.support.service import Service
from tests.support.status import refused
from tests.support.waiting import eventually

_CRAWLER = context_pb2.WebContext(user_agent="Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)")


class Watched:
    """The change of one sample since the object was made."""

    def __init__(self, name: str, **labels: str) -> None:
        self._sample = name, labels
        self._before = self.now

    @property
    def now(self) -> float:
        return REGISTRY.get_sample_value(*self._sample) or 0.0

    @property
    def more(self) -> float:
        return self.now - self._before


def calls(method: str, code: str) -> Watched:
    return Watched("samplit_call_seconds_count", method=method, code=code)


async def test_calls_by_method_and_code(service: Service) -> None:
    allocated, unknown = calls("AllocateUser", "OK"), calls("AllocateUser", "NOT_FOUND")
    created, strangers = calls("CreateExperiment", "OK"), calls("AllocateUser", "UNAUTHENTICATED")
    seconds = Watched("samplit_call_seconds_sum", method="AllocateUser", code="OK")
    await service.running()
    for n in range(3):
        await service.allocate("cta", f"u{n}")
    await refused(service.allocate("nowhere", "u"))
    with pytest.raises(grpc.aio.AioRpcError):
        await service.allocation.AllocateUser(pb.AllocateUserRequest())
    assert [each.more for each in (allocated, unknown, created, strangers)] == [3, 1, 1, 1]
    assert 0 < seconds.more < 3


async def test_calls_that_their_caller_gives_up(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    cancelled = calls("AllocateUser", "CANCELLED")
    await service.running()
    never = Ticket(None, lambda _: None)
    monkeypatch.setattr(service.application.data_plane.records, "allocate", lambda _lookup, _done: never)
    request = pb.AllocateUserRequest(experiment_id="cta", user_identifier="u")
    with pytest.raises(grpc.aio.AioRpcError):
        await service.allocation.AllocateUser(request, metadata=service.metadata, timeout=0.1)
    await eventually(lambda: cancelled.more == 1)


async def test_round_trips_and_their_items(service: Service) -> None:
    counts = [Watched("samplit_redis_call_seconds_count", function=name) for name in ("allocate", "convert")]
    items = [Watched("samplit_redis_batch_items_sum", function=name) for name in ("allocate", "convert")]
    largest = Watched("samplit_redis_batch_items_bucket", function="allocate", le="16.0")
    await service.running()
    requests = [pb.AllocateUserRequest(experiment_id="cta", user_identifier=f"u{n}") for n in range(20)]
    await service.allocation.AllocateUsers(pb.AllocateUsersRequest(requests=requests), metadata=service.metadata)
    assert [counts[0].more, items[0].more, largest.more] == [1, 20, 0]
    await service.convert(user_identifier="u0", experiment_id="cta", event_id="e")
    assert [counts[1].more, items[1].more] == [1, 1]


async def test_who_is_answered_without_redis(service: Service, redis: Redis) -> None:
    degraded = Watched("samplit_degraded_total")
    bots, returning = Watched("samplit_bot_requests_total"), Watched("samplit_returning_users_total")
    await service.running()
    await service.allocate("cta", "u")
    for _ in range(2):
        await service.allocate("cta", "u")
    await service.allocate("cta", "bot", web=_CRAWLER)
    assert [bots.more, returning.more, degraded.more] == [1, 2, 0]
    await redis.flushall()
    assert (await service.allocate("cta", "newcomer")).reason == pb.REASON_DEGRADED
    assert degraded.more == 1


async def test_a_server_says_how_it_is(service: Service) -> None:
    lags = Watched("samplit_event_loop_lag_seconds_count")
    await eventually(lambda: lags.more >= 1)
    assert Watched("samplit_redis_connected").now == 1
    await eventually(lambda: 0 <= Watched("samplit_snapshot_age_seconds").now <= 2 * service.settings.poll_interval)


async def test_the_worker_says_what_it_has_drained(service: Service, worker: None, redis: Redis) -> None:
    drained, dead = Watched("samplit_drained_events_total"), Watched("samplit_dead_letters_total")
    await service.running()
    await service.allocate("cta", "u")
    await redis.xadd(keys.stream(0), {"1": b"garbage"})
    await service.learned("cta", 1)
    await eventually(lambda: [drained.more, dead.more] == [1, 1])


async def test_only_who_drains_reports_the_backlog(
    service: Service, dsn: str, redis: Redis, settings: Settings, labeller: Labeller
) -> None:
    entries, lag = Watched("samplit_stream_events", shard="0"), Watched("samplit_drain_lag_seconds", shard="0")
    await service.running()
    for n in range(3):
        await service.allocate("cta", f"u{n}")
    await asyncio.sleep(0.05)
    backlog = BacklogReporter(redis, 0)
    before = entries.now, lag.now
    await backlog.report()
    assert str((entries.now, lag.now)) == str(before)
    backlog.start_reporting()
    await backlog.report()
    assert entries.now == 3
    assert 0.05 <= lag.now < 10
    backlog.stop_reporting()
    assert math.isnan(entries.now)
    assert math.isnan(lag.now)
    drain = asyncio.create_task(
        Drain(
            dsn,
            redis,
            0,
            settings,
            shard_balance=ShardBalance(dsn, 1),
            labeller=labeller,
            on_counts_changed=lambda _: None,
        ).run()
    )
    await eventually(lambda: (entries.now, lag.now) == (0, 0))
    drain.cancel()
