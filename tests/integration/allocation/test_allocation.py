"""The main path over a real channel: users are allocated and convert, the server learns, users keep their variants."""

from collections import Counter
from datetime import timedelta

import asyncpg
import grpc
import pytest
from redis.asyncio import Redis
from samplit.admin.v1 import experiment_pb2
from samplit.allocation.v1 import allocation_service_pb2 as pb
from samplit.allocation.v1 import context_pb2

from server.runtime.composition import Application
from tests.conftest import Clock
from tests.support.service import Service, stamp
from tests.support.status import refused

MANUAL = experiment_pb2.SEGMENTATION_MODE_MANUAL


def by_source(least: int = 0) -> experiment_pb2.SegmentationConfig:
    return experiment_pb2.SegmentationConfig(
        mode=MANUAL, segment_by=["source", "attributes.plan"], min_samples_per_segment=least
    )


async def test_a_user_keeps_the_variant_and_a_conversion_counts_once(service: Service, worker: None) -> None:
    await service.running()
    first = await service.allocate("cta", "u1")
    assert first.assignment_state == pb.ASSIGNMENT_STATE_NEW
    assert first.variant.content["text"] == f"text of {first.variant_id}"
    assert (first.segment_key, first.segment_display_name) == ("global", "Everyone")
    assert first.reason == pb.REASON_SAMPLED
    again = await service.allocate("cta", "u1")
    assert again.assignment_state == pb.ASSIGNMENT_STATE_EXISTING
    assert (again.variant_id, again.assignment_id, again.assigned_at) == (
        first.variant_id,
        first.assignment_id,
        first.assigned_at,
    )
    outcomes = [
        (await service.convert(assignment_id=first.assignment_id, event_id="e1")).results[0].outcome for _ in range(2)
    ]
    assert outcomes == [pb.CONVERSION_OUTCOME_RECORDED, pb.CONVERSION_OUTCOME_DUPLICATE]
    second = await service.convert(user_identifier="u1", event_id="e2")
    assert [(r.experiment_id, r.outcome) for r in second.results] == [("cta", pb.CONVERSION_OUTCOME_RECORDED)]
    results = await service.learned("cta", allocations=1, conversions=1)
    assert [(v.variant_id, v.rate) for v in results.totals if v.allocations] == [(first.variant_id, 1.0)]


async def test_it_learns(service: Service, worker: None) -> None:
    """One variant always converts, the others never. After a few steps most users get it."""
    await service.running()
    counted = conversions = 0
    for step in range(5):
        users = [f"u{step}-{n}" for n in range(100)]
        batch = pb.AllocateUsersRequest(
            requests=[pb.AllocateUserRequest(experiment_id="cta", user_identifier=user) for user in users]
        )
        answer = await service.allocation.AllocateUsers(batch, metadata=service.metadata)
        assert set(answer.variants) <= {"cta/control", "cta/a", "cta/b"}
        winners = [
            pb.RecordConversionRequest(assignment_id=item.allocation.assignment_id, event_id=user)
            for user, item in zip(users, answer.items, strict=True)
            if item.allocation.variant_id == "b"
        ]
        await service.allocation.RecordConversions(
            pb.RecordConversionsRequest(requests=winners), metadata=service.metadata
        )
        counted += 100
        conversions += len(winners)
        await service.learned("cta", counted, conversions)
    assert len(winners) > 85


async def test_segments_have_keys_and_share_of_the_results(service: Service, worker: None) -> None:
    await service.running(segmentation=by_source())
    web = context_pb2.WebContext(utm_source="Instagram ")
    answer = await service.allocate("cta", "u1", web=web, attributes={"plan": "Pro|x"})
    assert answer.segment_key == "source:instagram|plan:pro%7Cx"
    assert answer.segment_display_name == "Instagram · plan pro|x"
    assert (await service.allocate("cta", "u2")).segment_key == "source:unknown|plan:unknown"
    moved = await service.allocate("cta", "u1", web=context_pb2.WebContext(utm_source="google"))
    assert moved.segment_key == "source:instagram|plan:pro%7Cx"
    results = await service.learned("cta", allocations=2)
    assert {(s.segment_key, s.allocations) for s in results.segments} == {
        ("source:instagram|plan:pro%7Cx", 1),
        ("source:unknown|plan:unknown", 1),
    }


async def test_a_thin_segment_is_served_by_everyone_and_says_so(service: Service) -> None:
    await service.running(segmentation=by_source(least=100), baseline_share=0.0)
    assert (await service.allocate("cta", "u1")).reason == pb.REASON_FALLBACK


async def test_holdout_and_baseline_have_their_shares(service: Service) -> None:
    await service.running(segmentation=by_source(), holdout_share=0.2, baseline_share=0.25)
    answers = [await service.allocate("cta", f"u{n}") for n in range(400)]
    reasons = Counter(answer.reason for answer in answers)
    assert 50 <= reasons[pb.REASON_HOLDOUT] <= 110
    assert 50 <= reasons[pb.REASON_BASELINE] <= 110
    assert {a.variant_id for a in answers if a.reason == pb.REASON_HOLDOUT} == {"control"}


async def test_segments_cannot_explode(service: Service) -> None:
    await service.running(segmentation=experiment_pb2.SegmentationConfig(mode=MANUAL, segment_by=["attributes.plan"]))
    keys = Counter()
    for n in range(260):
        keys[(await service.allocate("cta", f"u{n}", attributes={"plan": str(n)})).segment_key] += 1
    assert keys["other"] == 60
    assert len(keys) == 201
    assert (await service.allocate("cta", "u259")).segment_key == "other"
    assert (await service.allocate("cta", "new", attributes={"plan": "3"})).segment_key == "plan:3"


async def test_a_burst_of_new_segments_is_served(service: Service) -> None:
    """Hundreds of users arrive at once, in segments that this process has not seen."""
    await service.running(segmentation=experiment_pb2.SegmentationConfig(mode=MANUAL, segment_by=["attributes.plan"]))
    requests = [
        pb.AllocateUserRequest(experiment_id="cta", user_identifier=f"u{n}", attributes={"plan": str(n % 150)})
        for n in range(900)
    ]
    answer = await service.allocation.AllocateUsers(
        pb.AllocateUsersRequest(requests=requests), metadata=service.metadata
    )
    assert {item.status.code for item in answer.items} == {0}
    assert len({item.allocation.segment_key for item in answer.items}) == 150


async def test_bots_get_control_and_leave_no_trace(service: Service, redis: Redis) -> None:
    await service.running()
    bot = context_pb2.WebContext(user_agent="Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)")
    answer = await service.allocate("cta", "u1", web=bot)
    assert (answer.variant_id, answer.reason) == ("control", pb.REASON_BOT)
    assert (answer.assignment_state, answer.assignment_id) == (pb.ASSIGNMENT_STATE_NONE, "")
    assert await redis.keys("{s00}:a:*") == []


async def test_a_forced_variant_is_a_preview(service: Service, redis: Redis) -> None:
    await service.running()
    answer = await service.allocate("cta", "u1", force_variant_id="b")
    assert (answer.variant_id, answer.reason) == ("b", pb.REASON_OVERRIDE)
    assert answer.assignment_state == pb.ASSIGNMENT_STATE_NONE
    assert await redis.keys("{s00}:a:*") == []


async def test_paused_and_completed(service: Service) -> None:
    await service.running()
    had = await service.allocate("cta", "u1")
    await service.call("PauseExperiment", experiment_id="cta")
    kept = await service.allocate("cta", "u1")
    assert (kept.variant_id, kept.assignment_state) == (had.variant_id, pb.ASSIGNMENT_STATE_EXISTING)
    fresh = await service.allocate("cta", "u2")
    assert (fresh.variant_id, fresh.reason) == ("control", pb.REASON_PAUSED)
    assert fresh.assignment_state == pb.ASSIGNMENT_STATE_NONE
    await service.call("CompleteExperiment", experiment_id="cta", winner_variant_id="b")
    for user in ("u1", "u3"):
        answer = await service.allocate("cta", user)
        assert (answer.variant_id, answer.reason) == ("b", pb.REASON_COMPLETED)


async def test_a_retired_variant_is_drawn_no_more_and_its_users_get_control(service: Service, worker: None) -> None:
    running = await service.running()
    users = [f"u{n}" for n in range(60)]
    had = {user: (await service.allocate("cta", user)).variant_id for user in users}
    running.variants[2].retired = True
    running.variants.add(variant_id="c", name="C")
    await service.call("UpdateExperiment", experiment=running, update_mask={"paths": ["variants"]})
    for user in users:
        answer = await service.allocate("cta", user)
        retired = had[user] == "b"
        assert answer.variant_id == ("control" if retired else had[user])
        assert (answer.reason == pb.REASON_VARIANT_RETIRED) == retired
    drawn = {(await service.allocate("cta", f"new{n}")).variant_id for n in range(60)}
    assert drawn == {"control", "a", "c"}


async def test_another_process_answers_alike(service: Service, clock: Clock) -> None:
    """Two processes give a user the same variant, also a user whom neither has seen."""
    await service.running()
    here = {f"u{n}": (await service.allocate("cta", f"u{n}")).variant_id for n in range(30)}
    other = await Application.start(service.settings, clock)
    try:
        snapshot = await other.data_plane.catalog.get("cta")
        own = await service.application.data_plane.catalog.get("cta")
        assert (snapshot.tables.alpha == own.tables.alpha).all()
        assert snapshot.experiment == own.experiment
    finally:
        await other.stop(0)
    assert {user: (await service.allocate("cta", user)).variant_id for user in here} == here


async def test_assignments_may_be_dated(service: Service, worker: None, clock: Clock, dsn: str) -> None:
    await service.running(time_zone="America/Sao_Paulo")
    at = clock.now.replace(hour=1) - timedelta(days=3)
    answer = await service.allocate("cta", "u1", event_time=stamp(at))
    assert answer.assigned_at == stamp(at)
    await service.convert(assignment_id=answer.assignment_id, event_id="e", event_time=stamp(at + timedelta(hours=1)))
    await service.learned("cta", 1, 1)
    connection = await asyncpg.connect(dsn)
    row = await connection.fetchrow("SELECT day, converted_at, propensity, context FROM samplit.assignments")
    await connection.close()
    assert row["day"] == (at - timedelta(hours=3)).date()
    assert row["converted_at"] == at + timedelta(hours=1)
    assert row["propensity"] == pytest.approx(1 / 3, abs=1e-6)


async def test_a_conversion_without_experiment_is_credited_to_all(service: Service) -> None:
    for name in ("one", "two", "three"):
        await service.running(experiment_id=name)
    await service.allocate("one", "u1")
    await service.allocate("two", "u1")
    await service.call("PauseExperiment", experiment_id="two")
    answer = await service.convert(user_identifier="u1", event_id="e")
    assert {r.experiment_id: r.outcome for r in answer.results} == {
        "one": pb.CONVERSION_OUTCOME_RECORDED,
        "two": pb.CONVERSION_OUTCOME_RECORDED,
    }
    named = await service.convert(user_identifier="u1", experiment_id="three", event_id="e")
    assert named.results[0].outcome == pb.CONVERSION_OUTCOME_NO_ASSIGNMENT
    assert not (await service.convert(user_identifier="nobody", event_id="e")).results


async def test_other_metrics_are_kept_and_do_not_decide(service: Service, worker: None, dsn: str) -> None:
    await service.running(primary_metric="purchase")
    answer = await service.allocate("cta", "u1")
    for metric in ("add_to_cart", "purchase"):
        await service.convert(
            assignment_id=answer.assignment_id, event_id="e", metric=metric, value=9.5, currency="EUR"
        )
    await service.learned("cta", 1, 1)
    connection = await asyncpg.connect(dsn)
    rows = await connection.fetch("SELECT metric, value, currency FROM samplit.conversions ORDER BY metric")
    await connection.close()
    assert [tuple(row) for row in rows] == [("add_to_cart", 9.5, "EUR"), ("purchase", 9.5, "EUR")]


@pytest.mark.parametrize("method", ["AllocateUser", "AllocateUsers", "RecordConversion", "RecordConversions"])
async def test_bytes_that_are_no_message_are_refused_after_the_key_was_checked(service: Service, method: str) -> None:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{service.application.port}") as channel:
        call = channel.unary_unary(f"/samplit.allocation.v1.AllocationService/{method}")
        refusal = await refused(call(b"\xff\xff\xff", metadata=service.metadata))
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "MALFORMED_REQUEST")
        refusal = await refused(call(b"\xff\xff\xff"))
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.UNAUTHENTICATED, "KEY_MISSING")
