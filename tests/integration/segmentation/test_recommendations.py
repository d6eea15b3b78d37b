"""Segmentation that comes and goes by itself: eligible, recommended, accepted, activated, measured, turned off."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest
from grpc import StatusCode as Code
from samplit.admin.v1 import experiment_pb2
from samplit.admin.v1 import recommendation_service_pb2 as pb

from allocator.experiment import ExperimentState
from server.recommendations.checker import Checker
from server.runtime.worker import run_worker
from server.tasks import end
from server.worker.eligibility_sweep import EligibilitySweep
from storage.encryption import load_secrets
from storage.postgres.counts import dimensions
from storage.postgres.locks import resegmentation
from storage.postgres.pool import connect, create_pool
from storage.redis.client import create_client
from tests.conftest import Clock
from tests.faults.installation import cli
from tests.support.days import CROSSOVER, FLAT, Days, Person, of_sources, two_variants
from tests.support.service import Service
from tests.support.status import refused

AUTO_ACTIVATION = experiment_pb2.SegmentationConfig(auto_activation=True)
MANUAL, DISABLED = experiment_pb2.SEGMENTATION_MODE_MANUAL, experiment_pb2.SEGMENTATION_MODE_DISABLED
OPEN, ACCEPTED, DISMISSED, WITHDRAWN = (
    pb.RecommendationState.Value(f"RECOMMENDATION_STATE_{name}")
    for name in ("OPEN", "ACCEPTED", "DISMISSED", "WITHDRAWN")
)
STRONG = of_sources({"instagram": {"control": 0.10, "b": 0.30}, "google": {"control": 0.30, "b": 0.10}})
REVERSED = of_sources({"instagram": {"control": 0.30, "b": 0.10}, "google": {"control": 0.10, "b": 0.30}})
B_IS_BEST = of_sources({source: {"control": 0.05, "b": 0.20} for source in ("instagram", "google")})


async def begin(service: Service, clock: Clock, **fields: Any) -> Days:
    """A running experiment, at midnight."""
    clock.now = clock.now.replace(hour=0, minute=0, second=0)
    created = (await service.call("CreateExperiment", experiment=two_variants(**fields))).experiment
    await service.call("StartExperiment", experiment_id=created.experiment_id)
    return Days(service, clock)


async def recommended(service: Service, clock: Clock, **fields: Any) -> tuple[Days, Any]:
    """One to segment by source, after two days."""
    days = await begin(service, clock, **fields)
    for _ in range(2):
        await days.day(1_000, STRONG, parts=1)
    (found,) = (await days.check()).recommendations
    return days, found


async def listed(service: Service, *states: int) -> list[Any]:
    answer = await service.call("ListRecommendations", experiment_id="cta")
    return [each for each in answer.recommendations if each.state in states]


async def test_the_stream_is_counted_by_dimension_once(service: Service, worker: None, clock: Clock, dsn: str) -> None:
    days = await begin(service, clock)
    await days.day(600, CROSSOVER, parts=2)
    await days.day(300, CROSSOVER, parts=1)
    for user in range(50):  # they come back on the third day, twice
        for _ in range(2):
            await service.allocate("cta", f"u{user}")
    connection = await connect(dsn)
    async with asyncio.timeout(10):
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
    assert not (await days.check()).action, "below the threshold of 1,000 visitors a day"
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
    await connection.execute("SELECT pg_advisory_lock($1, $2)", *resegmentation(1).key)  # as a worker that hangs would
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
    (found,) = (await days.check()).recommendations
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


async def test_from_the_command_line(service: Service, worker: None, clock: Clock) -> None:
    _, found = await recommended(service, clock)
    address = {"SAMPLIT_ADMIN_ADDRESS": f"127.0.0.1:{service.application.admin_port}", "SAMPLIT_API_KEY": service.key}

    async def said(*arguments: str) -> str:
        done = await asyncio.to_thread(cli, *arguments, **address, COLUMNS="200")
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "cta: eligible: every condition holds" in await said("check-eligibility", "--look")
    assert "recommended: segment by source" in await said("check-eligibility", "cta")
    assert found.recommendation_id in await said("recommendations", "list")
    page = await said("explain", "cta")
    assert "auto-activation is off" in page
    assert "2,000 users of 2 days" in page
    assert "last check" in page
    assert "cta: segment by source" in await said("recommendations", "accept", found.recommendation_id)
    refusal = await asyncio.to_thread(cli, "recommendations", "dismiss", found.recommendation_id, **address)
    assert (refusal.returncode, "cannot be decided any more" in refusal.stderr) == (1, True)
    assert "not enough data" in await said("segmentation", "metrics", "cta")
    assert "ACCEPTED by" in await said("recommendations", "list", "cta", "--all")
    await said("segmentation", "set", "cta", "--auto-activation", "--threshold", "500")
    config = (await service.call("GetSegmentationConfig", experiment_id="cta")).segmentation.config
    assert (config.auto_activation, config.auto_activation_threshold) == (True, 500)


@pytest.mark.parametrize(
    ("method", "fields", "code", "text"),
    [
        ("CheckEligibility", {"experiment_id": "none"}, Code.NOT_FOUND, "none"),
        ("CheckEligibility", {"experiment_id": ""}, Code.INVALID_ARGUMENT, "experiment_id"),
        ("ListRecommendations", {"experiment_id": "none"}, Code.NOT_FOUND, "none"),
        ("ListRecommendations", {"page_size": -1}, Code.INVALID_ARGUMENT, "page_size"),
        ("ListRecommendations", {"page_token": "x"}, Code.INVALID_ARGUMENT, "page_token"),
        ("AcceptRecommendation", {"recommendation_id": "x"}, Code.INVALID_ARGUMENT, "recommendation_id"),
        (
            "AcceptRecommendation",
            {"recommendation_id": "0d9c5d7c-6f3b-4f0b-9a37-5e8e6f3f2a10"},
            Code.NOT_FOUND,
            "no recommendation",
        ),
        (
            "DismissRecommendation",
            {"recommendation_id": "0d9c5d7c-6f3b-4f0b-9a37-5e8e6f3f2a10"},
            Code.NOT_FOUND,
            "no recommendation",
        ),
        (
            "DismissRecommendation",
            {"recommendation_id": "0d9c5d7c-6f3b-4f0b-9a37-5e8e6f3f2a10", "reason": "x" * 513},
            Code.INVALID_ARGUMENT,
            "reason",
        ),
        ("GetSegmentationMetrics", {"experiment_id": "none"}, Code.NOT_FOUND, "none"),
    ],
)
async def test_bad_input(service: Service, method: str, fields: dict[str, Any], code: Code, text: str) -> None:
    refusal = await refused(service.call(method, **fields))
    assert refusal.code is code
    assert text in refusal.message


@pytest.mark.parametrize("threshold", [0, 2_000_000_000])
async def test_thresholds_are_numbers_of_visitors(service: Service, threshold: int) -> None:
    config = experiment_pb2.SegmentationConfig(auto_activation_threshold=threshold)
    refusal = await refused(service.call("CreateExperiment", experiment=two_variants(segmentation=config)))
    assert refusal.code is Code.INVALID_ARGUMENT
    assert "segmentation.auto_activation_threshold" in refusal.message


async def test_pages_of_recommendations(service: Service, worker: None, clock: Clock) -> None:
    days, found = await recommended(service, clock)
    await service.call("DismissRecommendation", recommendation_id=found.recommendation_id)
    clock.advance(days=20)
    for _ in range(2):
        await days.day(2_500, STRONG, parts=1)
    await days.check()
    first = await service.call("ListRecommendations", page_size=1)
    second = await service.call("ListRecommendations", page_size=1, page_token=first.next_page_token)
    assert second.recommendations[0].recommendation_id == found.recommendation_id
    assert not second.next_page_token
    refusal = await refused(service.call("ListRecommendations", experiment_id="cta", page_token=first.next_page_token))
    assert refusal.code is Code.INVALID_ARGUMENT


async def sweep_of(service: Service, clock: Clock) -> tuple[EligibilitySweep, Sequence[Any]]:
    dsn, url = service.settings.stores
    pool, redis = await create_pool(dsn, size=2), create_client(url)
    secrets = load_secrets(service.settings.secrets_directory)
    return EligibilitySweep(pool, Checker(pool, redis, secrets, clock), clock), (pool.close, redis.aclose)


async def test_a_sweep_looks_at_everything_once_in_six_hours(service: Service, clock: Clock, dsn: str) -> None:
    for number in range(30):
        message = two_variants(experiment_id=f"e{number}")
        await service.call("CreateExperiment", experiment=message)
        await service.call("StartExperiment", experiment_id=f"e{number}")
    sweep, closing = await sweep_of(service, clock)
    connection = await connect(dsn)
    try:
        assert await sweep.is_due()
        await sweep.check_due()
        assert not await sweep.is_due()
        checked = await connection.fetch("SELECT DISTINCT checked_at FROM experiment_segmentation_config")
        assert [row["checked_at"] for row in checked] == [clock.now]
        clock.advance(hours=5, minutes=59)
        assert not await sweep.is_due()
        clock.advance(minutes=2)
        assert await sweep.is_due()
    finally:
        await connection.close()
        for close in closing:
            await close()


async def test_two_workers_check_once(service: Service, clock: Clock, dsn: str) -> None:
    """Whichever takes the job; the other finds nothing due."""
    for number in range(20):
        await service.call("CreateExperiment", experiment=two_variants(experiment_id=f"e{number}"))
        await service.call("StartExperiment", experiment_id=f"e{number}")
    connection = await connect(dsn)
    await count_checks(connection)
    ready = [asyncio.Event(), asyncio.Event()]
    workers = [asyncio.create_task(run_worker(service.settings, clock, event)) for event in ready]
    try:
        async with asyncio.timeout(30):
            while await connection.fetchval("SELECT count(*) FROM checks") < 20:
                await asyncio.sleep(0.05)
        await asyncio.sleep(1)
        assert await connection.fetchval("SELECT count(*) FROM checks") == 20
    finally:
        await connection.close()
        await end(*workers)


async def count_checks(connection: Any, pause: float = 0) -> None:
    """Let PostgreSQL write down every check that is noted, and take a while for each."""
    await connection.execute(
        f"""
        CREATE TABLE checks (experiment_no integer);
        CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS
            'BEGIN INSERT INTO checks VALUES (new.experiment_no); PERFORM pg_sleep({pause}); RETURN NULL; END';
        CREATE TRIGGER note AFTER UPDATE OF checked_at ON experiment_segmentation_config
            FOR EACH ROW EXECUTE FUNCTION note();
        """  # noqa: S608
    )
