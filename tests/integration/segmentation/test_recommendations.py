"""Segmentation that is recommended, accepted or dismissed, turned on, measured, and turned off by itself."""

import asyncio
from datetime import timedelta

from grpc import StatusCode as Code
from samplit.admin.v1 import experiment_pb2
from samplit.admin.v1 import recommendation_service_pb2 as pb

from allocator.experiment import ExperimentState
from storage.postgres.locks import resegmentation
from storage.postgres.pool import connect
from tests.conftest import Clock
from tests.support.days import FLAT
from tests.support.recommendations import (
    ACCEPTED,
    AUTO_ACTIVATION,
    B_IS_BEST,
    DISABLED,
    DISMISSED,
    MANUAL,
    OPEN,
    REVERSED,
    STRONG,
    WITHDRAWN,
    begin,
    listed,
    recommended,
)
from tests.support.service import Service
from tests.support.status import refused
from tests.support.waiting import PATIENCE_SECONDS


async def test_nothing_is_recommended_without_traffic_or_evidence(service: Service, worker: None, clock: Clock) -> None:
    days = await begin(service, clock, segmentation=AUTO_ACTIVATION)
    empty = await days.check()
    assert not empty.eligible
    assert "traffic" in empty.summary
    for _ in range(2):
        await days.day(1_000, FLAT, parts=1)
    busy = await days.check()
    missing = {each.name for each in busy.conditions if not each.holds}
    assert missing == {"evidence", "lift"}
    assert not busy.recommendations
    assert not busy.action
    assert busy.freshness.HasField("last_assignment_at")
    assert busy.freshness.HasField("posterior_published_at")
    assert busy.freshness.drain_lag_seconds == 0
    by_name = {each.dimension: each for each in busy.dimensions}
    assert by_name["source"].coverage == 1
    assert by_name["source"].segments == 2
    assert by_name["channel"].problem == "100 % of users have the same value; at most 95 % may"


async def test_accepting_segments_and_doing_so_again_changes_nothing(
    service: Service, worker: None, clock: Clock
) -> None:
    days, found = await recommended(service, clock)
    assert found.summary == "segment by source"
    assert list(found.segment_by) == ["source"]
    assert found.e_value >= found.e_value_needed
    assert found.expected_lift.lower > 0.02
    assert (found.trials, found.days) == (2_000, 2)
    again = await days.check()
    assert [each.recommendation_id for each in again.recommendations] == [found.recommendation_id]
    first = await service.call("AcceptRecommendation", recommendation_id=found.recommendation_id)
    assert first.recommendation.state == ACCEPTED
    assert (await days.serving()).config.mode == MANUAL
    second = await service.call("AcceptRecommendation", recommendation_id=found.recommendation_id)
    assert second == first
    assert (await days.serving()).segmentation_version == 2
    assert (await service.call("GetExperiment", experiment_id="cta")).experiment.baseline_share == 0.1
    refusal = await refused(service.call("DismissRecommendation", recommendation_id=found.recommendation_id))
    assert (refusal.code, refusal.reason) == (Code.FAILED_PRECONDITION, "RECOMMENDATION_STALE")
    await days.day(2_400, STRONG, parts=12)
    metrics = await service.call("GetSegmentationMetrics", experiment_id="cta")
    assert metrics.mode == MANUAL
    assert metrics.segments_count == 2
    assert metrics.expected_lift == found.expected_lift
    assert metrics.avg_lift.lower > 0
    assert {metrics.best_segment.segment_display_name, metrics.worst_segment.segment_display_name} == {
        *("Instagram", "Google")
    }
    assert [day.trials for day in metrics.days] == [2_400]


async def test_what_the_experiment_has_left_behind_is_stale(service: Service, worker: None, clock: Clock) -> None:
    days, found = await recommended(service, clock)
    config = experiment_pb2.SegmentationConfig(mode=MANUAL, segment_by=["device"])
    await service.call(
        "UpdateSegmentationConfig", experiment_id="cta", config=config, update_mask={"paths": ["mode", "segment_by"]}
    )
    refusal = await refused(service.call("AcceptRecommendation", recommendation_id=found.recommendation_id))
    assert (refusal.code, refusal.reason) == (Code.FAILED_PRECONDITION, "RECOMMENDATION_STALE")
    await days.serving()
    refusal = await refused(service.call("AcceptRecommendation", recommendation_id=found.recommendation_id))
    assert refusal.code is Code.FAILED_PRECONDITION
    assert (await days.serving()).config.segment_by == ["device"]
    for _ in range(2):
        await days.day(1_000, STRONG, parts=1)
    checked = await days.check()
    assert [each.summary for each in await listed(service, WITHDRAWN)] == ["segment by source"]
    (added,) = checked.recommendations
    assert added.kind == pb.RECOMMENDATION_KIND_ADD_DIMENSION
    assert list(added.segment_by) == ["device", "source"]
    assert added.expected_lift.lower > 0


async def test_old_recommendations_expire_unless_a_check_renews_them(
    service: Service, worker: None, clock: Clock
) -> None:
    days, found = await recommended(service, clock)
    clock.advance(days=7, seconds=1)
    refusal = await refused(service.call("AcceptRecommendation", recommendation_id=found.recommendation_id))
    assert refusal.code is Code.FAILED_PRECONDITION
    assert "expired" in refusal.message
    await days.day(1_000, STRONG, parts=1)
    (renewed,) = (await days.check()).recommendations
    accepted = await service.call("AcceptRecommendation", recommendation_id=renewed.recommendation_id)
    assert accepted.recommendation.state == ACCEPTED


async def test_what_was_dismissed_comes_back_with_ten_times_the_evidence(
    service: Service, worker: None, clock: Clock, dsn: str
) -> None:
    days, found = await recommended(service, clock)
    reason = "one page for all"
    dismissed = await service.call("DismissRecommendation", recommendation_id=found.recommendation_id, reason=reason)
    assert (dismissed.recommendation.state, dismissed.recommendation.dismissed_because) == (DISMISSED, reason)
    assert not (await days.check()).recommendations
    connection = await connect(dsn)
    await connection.execute("UPDATE segmentation_recommendations SET e_value = e_value / 11")
    await connection.close()
    (again,) = (await days.check()).recommendations
    assert again.recommendation_id != found.recommendation_id
    assert len(await listed(service, OPEN, DISMISSED)) == 2


async def test_it_turns_on_measures_and_turns_off_by_itself(service: Service, worker: None, clock: Clock) -> None:
    days = await begin(service, clock, segmentation=AUTO_ACTIVATION)
    await days.day(900, STRONG, parts=1)
    await days.day(900, STRONG, parts=1)
    assert not (await days.check()).action, "traffic is below the threshold of 1,000 visitors a day"
    await days.day(1_000, STRONG, parts=1)
    assert not (await days.check(validate_only=True)).action
    assert not await listed(service, OPEN, ACCEPTED)
    checked = await days.check()
    assert checked.action == "segment by source"
    assert (await days.serving()).config.segment_by == ["source"]
    assert (await service.call("GetExperiment", experiment_id="cta")).experiment.baseline_share == 0.2
    (accepted,) = await listed(service, ACCEPTED)
    assert accepted.decided_by == "samplit"
    action = ""
    for _ in range(8):
        await days.day(1_000, REVERSED, parts=1)
        action = (await days.check()).action
        if action:
            break
    assert action.startswith("turn segmentation off: ")
    assert (await days.serving()).config.mode == DISABLED
    assert (await service.call("GetExperiment", experiment_id="cta")).experiment.baseline_share == 0.1
    await days.day(1_000, STRONG, parts=1)
    resting = await days.check()
    assert not resting.action
    assert "rest" in resting.summary
    events = (await service.call("ListAuditEvents", experiment_id="cta", actor="samplit")).events
    assert [event.action for event in events if event.action.startswith("recommendation")] == [
        *("recommendation.accept", "recommendation.accept")
    ]


async def test_what_does_not_come_about_raises_an_alert(service: Service, worker: None, clock: Clock, dsn: str) -> None:
    days = await begin(service, clock, segmentation=AUTO_ACTIVATION)
    for _ in range(2):
        await days.day(1_000, STRONG, parts=1)
    connection = await connect(dsn)
    await connection.execute(
        "SELECT pg_advisory_lock($1, $2)", *resegmentation(1).key
    )  # as a worker that hangs holds it
    assert (await days.check()).action
    clock.advance(minutes=61)
    assert not (await days.check()).action
    (alert,) = (await service.call("ListAlerts", experiment_id="cta")).alerts
    assert "users who came before are not assigned to its segments yet" in alert.summary
    await connection.close()
    await days.serving()
    await days.check()
    (alert,) = (await service.call("ListAlerts", experiment_id="cta")).alerts
    assert alert.HasField("resolved_at")


async def test_the_baseline_is_large_for_a_month_only(service: Service, worker: None, clock: Clock) -> None:
    days = await begin(service, clock, segmentation=AUTO_ACTIVATION)
    for _ in range(2):
        await days.day(1_000, STRONG, parts=1)
    assert (await days.check()).action
    await days.serving()
    clock.advance(days=29)
    await days.check()
    assert (await service.call("GetExperiment", experiment_id="cta")).experiment.baseline_share == 0.2
    clock.advance(days=2)
    await days.check()
    assert (await service.call("GetExperiment", experiment_id="cta")).experiment.baseline_share == 0.1


async def test_a_winner_for_everyone_finishes_the_experiment(service: Service, worker: None, clock: Clock) -> None:
    days = await begin(service, clock)
    for _ in range(7):
        await days.day(400, B_IS_BEST, parts=1)
    async with asyncio.timeout(PATIENCE_SECONDS):  # on a busy machine the last users are counted a little later
        while not (recommended := (await days.check()).recommendations):
            await asyncio.sleep(0.1)
    (found,) = recommended
    assert found.kind == pb.RECOMMENDATION_KIND_FINISH
    assert found.winner_variant_id == "b"
    await service.call("AcceptRecommendation", recommendation_id=found.recommendation_id)
    experiment = (await service.call("GetExperiment", experiment_id="cta")).experiment
    assert experiment.state == experiment_pb2.ExperimentState.Value(
        f"EXPERIMENT_STATE_{ExperimentState.COMPLETED.value}"
    )
    assert experiment.winner_variant_id == "b"


async def test_only_mature_users_count(service: Service, worker: None, clock: Clock) -> None:
    days = await begin(service, clock, maturity=timedelta(days=2))
    for _ in range(2):
        await days.day(1_000, STRONG, parts=1)
    held = {each.name: each.holds for each in (await days.check()).conditions}
    assert not held["days"]
    clock.advance(days=1)
    assert not (await days.check()).recommendations
    clock.advance(days=1)
    await days.day(1_000, STRONG, parts=1)
    assert [each.trials for each in (await days.check()).recommendations] == [2_000]


async def test_a_dimension_that_no_user_has_is_one_segment(service: Service, worker: None, clock: Clock) -> None:
    days = await begin(service, clock)
    config = experiment_pb2.SegmentationConfig(mode=MANUAL, segment_by=["attributes.nobody"])
    await service.call(
        "UpdateSegmentationConfig", experiment_id="cta", config=config, update_mask={"paths": ["mode", "segment_by"]}
    )
    await days.serving()
    for _ in range(2):
        await days.day(1_000, STRONG, parts=1)
    checked = await days.check()
    assert [each.summary for each in checked.recommendations] == ["also segment by source"]
    metrics = await service.call("GetSegmentationMetrics", experiment_id="cta")
    assert metrics.segments_count == 1
    assert not metrics.HasField("expected_lift")
