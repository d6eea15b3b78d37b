"""Estimates from the log: sums by PostgreSQL equal sums over rows, and too few data are reported as such."""

import numpy as np
import pytest
from samplit.admin.v1 import experiment_pb2, experiment_service_pb2
from samplit.allocation.v1 import allocation_service_pb2 as pb
from samplit.allocation.v1 import context_pb2

from allocator.estimates import sum_assignments
from storage.postgres.events.summed_log import summed_log
from storage.postgres.pool import connect
from tests.conftest import Clock
from tests.support.service import Service

COUNTS = experiment_service_pb2.RESULTS_VIEW_COUNTS


async def visited(service: Service, users: int, clock: Clock, together: int = 150) -> int:
    """Send users of two sources. With variant a three in four convert, else one in six. Return how many convert."""
    conversions = []
    requests = [
        pb.AllocateUserRequest(
            experiment_id="cta",
            user_identifier=f"u{n}",
            web=context_pb2.WebContext(utm_source=("instagram", "google")[n % 2]),
        )
        for n in range(users)
    ]
    for begin in range(0, users, together):
        batch = pb.AllocateUsersRequest(requests=requests[begin : begin + together])
        answer = await service.allocation.AllocateUsers(batch, metadata=service.metadata)
        for n, item in enumerate(answer.items, begin):
            if n % 4 if item.allocation.variant_id == "a" else n % 6 == 0:
                conversions.append(
                    pb.RecordConversionRequest(assignment_id=item.allocation.assignment_id, event_id=str(n))
                )
        recorded = pb.RecordConversionsRequest(requests=conversions[-together:])
        await service.allocation.RecordConversions(recorded, metadata=service.metadata)
        await service.learned("cta", begin + len(answer.items), len(conversions))
        clock.advance(hours=7)
    return len(conversions)


async def test_the_sums_of_postgres_are_those_of_the_rows(
    service: Service, worker: None, dsn: str, clock: Clock
) -> None:
    segmentation = experiment_pb2.SegmentationConfig(
        mode=experiment_pb2.SEGMENTATION_MODE_MANUAL, segment_by=["source"], min_samples_per_segment=20
    )
    await service.running(segmentation=segmentation, holdout_share=0.2)
    await visited(service, 450, clock)
    connection = await connect(dsn)
    summed = await summed_log(connection, 1, 1, control=0, now=clock())
    rows = await connection.fetch("SELECT * FROM assignments")
    await connection.close()
    assert summed is not None

    def column(name: str) -> np.ndarray:
        return np.array([row[name] for row in rows], float)

    times = np.array([row["assigned_at"].timestamp() for row in rows])
    assert np.unique(times).size == 3  # far enough apart for separate periods
    again = sum_assignments(
        np.searchsorted(np.unique(times), times),
        np.array([summed.segments.index(row["segment_no"]) for row in rows]),
        column("variant_no").astype(int),
        np.ones(len(rows)),
        np.array([row["converted_at"] is not None for row in rows], float),
        column("marginal_propensity"),
        column("q_segment"),
        column("q_global"),
        control=0,
        drawable=np.ones((3, 3), bool),
    )
    assert (summed.log.drawable == again.drawable).all()
    np.testing.assert_allclose(summed.log.lowest, again.lowest)
    for name in ("trials", "successes"):
        np.testing.assert_array_equal(getattr(summed.log, name), getattr(again, name))
    for name in ("inverse", "segmentation", "adaptive"):
        for part in ("total", "won", "squares", "squares_won"):
            ours, theirs = (getattr(getattr(log, name), part) for log in (summed.log, again))
            np.testing.assert_allclose(ours, theirs, atol=1e-9)


async def test_results_say_what_can_be_said(service: Service, worker: None, clock: Clock) -> None:
    await service.running()
    conversions = await visited(service, 450, clock, together=450)
    results = await service.call("GetExperimentResults", experiment_id="cta")
    assert sum(v.conversions for v in results.totals) == conversions
    control, a, b = results.totals
    assert a.estimated_rate.lower < a.estimated_rate.value < a.estimated_rate.upper
    assert a.difference.value == pytest.approx(a.estimated_rate.value - control.estimated_rate.value)
    assert a.difference.lower > 0
    assert not control.HasField("difference")
    assert sum(v.probability_best for v in results.totals) == pytest.approx(1)
    assert a.probability_best > 0.9
    assert a.expected_loss < min(control.expected_loss, b.expected_loss)
    assert results.adaptive_lift.value > 0
    assert not results.HasField("segmentation_lift")
    assert results.sample_ratio_p_value > 1e-6
    cheap = await service.call("GetExperimentResults", experiment_id="cta", view=COUNTS)
    assert not any(v.HasField("estimated_rate") or v.HasField("probability_best") for v in cheap.totals)
    assert [v.allocations for v in cheap.totals] == [v.allocations for v in results.totals]


async def test_too_few_data_say_so(service: Service, worker: None) -> None:
    await service.running()
    for n in range(6):
        await service.allocate("cta", f"u{n}")
    await service.learned("cta", 6)
    results = await service.call("GetExperimentResults", experiment_id="cta")
    assert not any(v.HasField("estimated_rate") or v.HasField("difference") for v in results.totals)
    assert not results.HasField("adaptive_lift")
