"""Conversions take days: what counts meanwhile, what is served, and what the results say."""

from datetime import timedelta

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from samplit.admin.v1 import experiment_pb2
from samplit.allocation.v1 import allocation_service_pb2 as pb
from samplit.allocation.v1 import context_pb2

from server.alerts.faults import Faults
from server.worker.maturity_finder import MaturityFinder
from storage.postgres.counts import cohorts, recount
from storage.postgres.pool import connect, create_pool
from tests.conftest import Clock
from tests.support.service import Service

DAY = 86_400


async def users(service: Service, clock: Clock, first: int, last: int) -> list[str]:
    """Allocate new users. Return their assignment ids."""
    requests = [pb.AllocateUserRequest(experiment_id="cta", user_identifier=f"u{n}") for n in range(first, last)]
    answer = await service.allocation.AllocateUsers(
        pb.AllocateUsersRequest(requests=requests), metadata=service.metadata
    )
    return [item.allocation.assignment_id for item in answer.items]


async def test_users_count_once_they_are_old_enough(service: Service, worker: None, clock: Clock, dsn: str) -> None:
    created = await service.running(maturity=Duration(seconds=2 * DAY))
    assert created.maturity.ToTimedelta() == timedelta(days=2)
    early = await users(service, clock, 0, 40)
    clock.advance(hours=30)
    await service.convert(assignment_id=early[0], event_id="a")
    results = await service.learned("cta", 40, 1)
    assert [v.trials for v in results.totals] == [0, 0, 0]
    assert not any(v.HasField("rate") or v.HasField("estimated_rate") for v in results.totals)
    clock.advance(hours=30)
    late = await users(service, clock, 40, 60)
    await service.convert(assignment_id=late[0], event_id="b")
    results = await service.learned("cta", 60, 2)
    assert sum(v.trials for v in results.totals) == 40
    assert results.segments[0].trials == 40
    of_early = [v for v in results.totals if v.HasField("rate")]
    assert sum(v.rate * v.trials for v in of_early) == pytest.approx(1)
    connection = await connect(dsn)
    assert await recount.differences(connection) == []
    immature = await cohorts.immature(connection, 1, 1, 2 * DAY, clock())
    assert sum(each.count.trials for each in immature.counts) == 20
    assert sum(each.count.successes for each in immature.counts) == 1
    assert sum(map(sum, immature.delays.values())) == 1
    await connection.execute("UPDATE cohort_counts SET trials = 0")
    await cohorts.recount_all(connection, clock())
    assert await cohorts.immature(connection, 1, 1, 2 * DAY, clock()) == immature
    await connection.close()


async def test_a_conversion_that_comes_too_late_is_kept_but_does_not_count(
    service: Service, worker: None, clock: Clock, dsn: str
) -> None:
    await service.running(maturity=Duration(seconds=DAY))
    ids = await users(service, clock, 0, 3)
    clock.advance(days=2)
    late = clock()
    await service.convert(assignment_id=ids[0], event_id="late", event_time=late)
    await service.convert(assignment_id=ids[0], event_id="dated back", event_time=late - timedelta(hours=30))
    await service.convert(assignment_id=ids[1], event_id="late", event_time=late)
    await service.learned("cta", 3, 1)
    connection = await connect(dsn)
    assert await connection.fetchval("SELECT count(*) FROM conversions") == 3
    assert await recount.differences(connection) == []
    await connection.close()


async def test_the_maturity_can_change_and_applies_to_what_is_recorded(
    service: Service, worker: None, clock: Clock, dsn: str
) -> None:
    await service.running()
    ids = await users(service, clock, 0, 10)
    clock.advance(hours=3)
    await service.convert(assignment_id=ids[0], event_id="a")
    clock.advance(hours=3)
    await service.learned("cta", 10, 1)

    async def change(**fields: object) -> experiment_pb2.Experiment:
        message = experiment_pb2.Experiment(experiment_id="cta", **fields)
        mask = FieldMask(paths=list(fields))
        return (await service.call("UpdateExperiment", experiment=message, update_mask=mask)).experiment

    assert (await change(maturity=Duration(seconds=3_600))).maturity.seconds == 3_600
    assert sum(v.trials for v in (await service.learned("cta", 10, 0)).totals) == 10
    await change(maturity=Duration(seconds=4 * 3_600))
    assert sum(v.trials for v in (await service.learned("cta", 10, 1)).totals) == 10
    await change(maturity=Duration(seconds=DAY))
    assert sum(v.trials for v in (await service.learned("cta", 10, 1)).totals) == 0
    connection = await connect(dsn)
    assert await recount.differences(connection) == []
    await connection.close()


async def test_a_segment_whose_users_are_all_young_has_no_estimates(
    service: Service, worker: None, clock: Clock
) -> None:
    segmentation = experiment_pb2.SegmentationConfig(
        mode=experiment_pb2.SEGMENTATION_MODE_MANUAL, segment_by=["source"]
    )
    await service.running(maturity=Duration(seconds=DAY), segmentation=segmentation)
    await service.allocate("cta", "early", web=context_pb2.WebContext(utm_source="google"))
    clock.advance(days=2)
    await service.allocate("cta", "late", web=context_pb2.WebContext(utm_source="bing"))
    results = await service.learned("cta", 2)
    assert {segment.segment_key: segment.trials for segment in results.segments} == {
        "source:google": 1,
        "source:bing": 0,
    }


@pytest.mark.parametrize(
    "maturity",
    [Duration(seconds=59), Duration(seconds=31 * DAY), Duration(seconds=-DAY), Duration(seconds=60, nanos=1)],
)
async def test_maturities_that_cannot_be_are_refused(service: Service, maturity: Duration) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await service.running(maturity=maturity)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "experiment.maturity" in refused.value.details()


async def test_a_maturity_is_set_or_found_not_both(service: Service) -> None:
    with pytest.raises(grpc.aio.AioRpcError, match="auto_maturity"):
        await service.running(maturity=Duration(seconds=DAY), auto_maturity=True)


async def test_the_maturity_is_found(service: Service, worker: None, clock: Clock, dsn: str) -> None:
    """Conversions take 1 to 120 minutes, so 95 % arrive within 114."""
    await service.running(auto_maturity=True)
    ids = await users(service, clock, 0, 300)
    start = clock()
    clock.advance(hours=2)
    for minutes, assignment_id in enumerate(ids[:120], 1):
        await service.convert(assignment_id=assignment_id, event_id="e", event_time=start + timedelta(minutes=minutes))
    await service.learned("cta", 300, 120)
    changed: set[int] = set()
    pool = await create_pool(dsn, size=1)
    finder = MaturityFinder(pool, clock, changed.update, Faults(clock))
    await finder.run_once()
    assert changed == {1}
    found = (await service.call("GetExperiment", experiment_id="cta")).experiment
    assert found.maturity.seconds == pytest.approx(114 * 60, abs=60)
    assert found.auto_maturity
    (event,) = (await service.call("ListAuditEvents", action_prefix="experiment.update")).events
    assert (event.actor, dict(event.after)) == ("samplit", {"maturity_seconds": found.maturity.seconds})
    await service.learned("cta", 300, 114)
    changed.clear()
    await finder.run_once()
    assert changed == set()
    clock.advance(days=10)
    await finder.run_once()
    async with pool.acquire() as connection:
        assert await connection.fetchval("SELECT count(*) FROM cohort_counts") == 0
        assert await recount.differences(connection) == []
    await pool.close()
