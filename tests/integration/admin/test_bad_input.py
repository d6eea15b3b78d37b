"""Bad input is refused, each kind with its own status, and leaves nothing behind."""

from datetime import timedelta
from typing import Any

import asyncpg
import grpc
import pytest
from redis.asyncio import Redis
from samplit.admin.v1 import experiment_pb2, experiment_service_pb2
from samplit.allocation.v1 import allocation_service_pb2 as pb
from samplit.allocation.v1 import context_pb2

from server.clock import system_clock
from server.maintenance.api_keys import new_key
from storage.postgres.operations import api_keys as stored_keys
from storage.postgres.pool import connect
from storage.redis import api_keys
from tests.conftest import Clock
from tests.support.service import Service, experiment, stamp
from tests.support.status import read, refused

INVALID = (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD")
MANUAL = experiment_pb2.SEGMENTATION_MODE_MANUAL


async def no_trace(redis: Redis, dsn: str) -> None:
    """Check that no user is recorded in Redis or in PostgreSQL."""
    assert await redis.keys("{s*:a:*") + await redis.keys("{s*:events") == []
    connection = await asyncpg.connect(dsn)
    assert await connection.fetchval("SELECT count(*) FROM samplit.assignments") == 0
    await connection.close()


@pytest.mark.parametrize(
    ("fields", "paths"),
    [
        ({"user_identifier": ""}, ["user_identifier"]),
        ({"user_identifier": "x" * 257}, ["user_identifier"]),
        ({"user_identifier": "a\0b"}, ["user_identifier"]),
        ({"experiment_id": ""}, ["experiment_id"]),
        ({"experiment_id": "Not A Slug", "user_identifier": ""}, ["experiment_id", "user_identifier"]),
        ({"attributes": {f"a{n}": "x" for n in range(33)}}, ["attributes"]),
        ({"attributes": {"Plan": "x"}}, ["attributes['Plan']"]),
        ({"attributes": {"device": "x"}}, ["attributes['device']"]),
        ({"attributes": {"plan": "x" * 257}}, ["attributes['plan']"]),
        ({"attributes": {"plan": "\0"}}, ["attributes['plan']"]),
        ({"web": context_pb2.WebContext(device="phone")}, ["web.device"]),
        ({"web": context_pb2.WebContext(country_code="Brazil")}, ["web.country_code"]),
        ({"web": context_pb2.WebContext(language="!!")}, ["web.language"]),
        ({"web": context_pb2.WebContext(time_zone="Mars/Olympus_Mons")}, ["web.time_zone"]),
        ({"email": context_pb2.EmailContext(engagement_score=-1)}, ["email.engagement_score"]),
        ({"funnel": context_pb2.FunnelContext(drop_risk=1.7)}, ["funnel.drop_risk"]),
        ({"push": context_pb2.PushContext(platform="pager")}, ["push.platform"]),
        ({"attributes": {"a|b": "x"}}, ["attributes['a|b']"]),
        ({"attributes": {"a:b": "x"}}, ["attributes['a:b']"]),
        ({"force_variant_id": "nope"}, ["force_variant_id"]),
        ({"event_time": stamp(system_clock() + timedelta(hours=1))}, ["event_time"]),
        ({"event_time": stamp(system_clock() - timedelta(days=8))}, ["event_time"]),
    ],
)
async def test_allocation_fields(
    service: Service, redis: Redis, dsn: str, fields: dict[str, Any], paths: list[str]
) -> None:
    await service.running()
    values = {"experiment_id": "cta", "user_identifier": "u1", **fields}
    refusal = await refused(service.allocate(values.pop("experiment_id"), values.pop("user_identifier"), **values))
    assert ((refusal.code, refusal.reason), refusal.fields) == (INVALID, paths)
    await no_trace(redis, dsn)


async def test_what_is_wrong_fits_into_a_status(service: Service) -> None:
    """Many and long problems still fit into the headers of a response, which have 8 KiB."""
    await service.running()
    refusal = await refused(service.allocate("cta", "u1", attributes={"é" * 9_000 + str(n): "x" for n in range(30)}))
    assert ((refusal.code, refusal.reason), len(refusal.fields)) == (INVALID, 8)
    segmentation = experiment_pb2.SegmentationConfig(mode=MANUAL, segment_by=["ü" * 9_000])
    variants = [VARIANT(name="N" * 9_000, variant_id="é" * 9_000)] * 30
    message = experiment(segmentation=segmentation, variants=variants, control_variant_id="é" * 9_000)
    refusal = await refused(service.call("CreateExperiment", experiment=message))
    assert ((refusal.code, refusal.reason), len(refusal.fields)) == (INVALID, 8)


async def test_unknown_and_draft_experiments(service: Service, redis: Redis, dsn: str) -> None:
    refusal = await refused(service.allocate("nowhere", "u1"))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.NOT_FOUND, "EXPERIMENT_NOT_FOUND")
    assert refusal.metadata == {"experiment_id": "nowhere"}
    await service.call("CreateExperiment", experiment=experiment())
    refusal = await refused(service.allocate("cta", "u1"))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "EXPERIMENT_STATE")
    assert refusal.metadata == {"experiment_id": "cta", "state": "DRAFT"}
    refusal = await refused(service.convert(user_identifier="u1", experiment_id="cta", event_id="e"))
    assert refusal.reason == "EXPERIMENT_STATE"
    await no_trace(redis, dsn)


async def test_what_browsers_send_is_cut_to_size(service: Service) -> None:
    await service.running()
    junk = "\x00\x01ÿ" * 250_000
    web = context_pb2.WebContext(user_agent=junk, utm_source=junk, referrer=junk, country_code="ZZ")
    assert (await service.allocate("cta", "u1", web=web)).variant_id


VARIANT = experiment_pb2.Variant


@pytest.mark.parametrize(
    ("fields", "paths"),
    [
        ({"name": ""}, ["experiment.name"]),
        ({"name": "x" * 129}, ["experiment.name"]),
        ({"experiment_id": "Has Spaces"}, ["experiment.experiment_id"]),
        ({"variants": [VARIANT(name="Only")], "control_variant_id": "only"}, ["experiment.variants"]),
        ({"variants": []}, ["experiment.variants", "experiment.control_variant_id"]),
        ({"variants": [VARIANT(name="A"), VARIANT(name="a")]}, ["experiment.variants[1].variant_id"]),
        ({"variants": [VARIANT(name="A"), VARIANT(name="")]}, None),
        ({"control_variant_id": "nope"}, ["experiment.control_variant_id"]),
        ({"holdout_share": 0.6}, ["experiment.holdout_share"]),
        ({"baseline_share": float("nan")}, ["experiment.baseline_share"]),
        ({"time_zone": "Mars/Olympus"}, ["experiment.time_zone"]),
        ({"primary_metric": "Not A Metric"}, ["experiment.primary_metric"]),
        ({"description": "\0"}, ["experiment.description"]),
        (
            {"segmentation": experiment_pb2.SegmentationConfig(mode=MANUAL, segment_by=["shoe_size"])},
            ["experiment.segmentation.segment_by[0]"],
        ),
        (
            {"segmentation": experiment_pb2.SegmentationConfig(segment_by=["source"])},
            ["experiment.segmentation.segment_by"],
        ),
        (
            {"segmentation": experiment_pb2.SegmentationConfig(min_samples_per_segment=2_000_000)},
            ["experiment.segmentation.min_samples_per_segment"],
        ),
    ],
)
async def test_experiment_fields(service: Service, fields: dict[str, Any], paths: list[str] | None) -> None:
    refusal = await refused(service.call("CreateExperiment", experiment=experiment(**fields)))
    assert (refusal.code, refusal.reason) == INVALID
    if paths is not None:
        assert refusal.fields == paths
    assert not (await service.call("ListExperiments")).experiments


@pytest.mark.parametrize("value", ["x" * 17_000, "nul \0", float("nan")])
async def test_contents(service: Service, value: object) -> None:
    message = experiment()
    message.variants[1].content["text"] = value
    refusal = await refused(service.call("CreateExperiment", experiment=message))
    assert ((refusal.code, refusal.reason), refusal.fields) == (INVALID, ["experiment.variants[1].content"])
    assert not (await service.call("ListExperiments")).experiments


@pytest.mark.parametrize(
    ("fields", "paths"),
    [
        ({"event_id": ""}, ["event_id"]),
        ({"event_id": "x" * 129}, ["event_id"]),
        ({"metric": "No Metric"}, ["metric"]),
        ({"value": float("inf")}, ["value"]),
        ({"currency": "euro"}, ["currency"]),
        ({"assignment_id": "forged"}, ["assignment_id"]),
        ({"assignment_id": ""}, ["assignment_id"]),
        ({"user_identifier": "u1"}, ["assignment_id"]),
        ({"experiment_id": "cta"}, ["experiment_id"]),
        ({"event_time": stamp(system_clock() + timedelta(hours=1))}, ["event_time"]),
    ],
)
async def test_conversion_fields(service: Service, redis: Redis, fields: dict[str, Any], paths: list[str]) -> None:
    await service.running()
    assigned = await service.allocate("cta", "u1")
    events = await redis.xlen("{s00}:events")
    refusal = await refused(service.convert(**{"assignment_id": assigned.assignment_id, "event_id": "e", **fields}))
    assert ((refusal.code, refusal.reason), refusal.fields) == (INVALID, paths)
    assert await redis.xlen("{s00}:events") == events


async def test_a_conversion_before_its_assignment(service: Service, redis: Redis, clock: Clock) -> None:
    await service.running()
    assigned = await service.allocate("cta", "u1")
    earlier = stamp(clock.now - timedelta(minutes=5, seconds=1))
    refusal = await refused(service.convert(assignment_id=assigned.assignment_id, event_id="e", event_time=earlier))
    assert (refusal.code, refusal.reason) == (
        grpc.StatusCode.FAILED_PRECONDITION,
        "CONVERSION_BEFORE_ASSIGNMENT",
    )
    everywhere = await service.convert(user_identifier="u1", event_id="e", event_time=earlier)
    assert [r.outcome for r in everywhere.results] == [pb.CONVERSION_OUTCOME_OUTSIDE_WINDOW]
    assert await redis.xlen("{s00}:events") == 1


async def test_keys_and_scopes(service: Service, clock: Clock) -> None:
    request = experiment_service_pb2.ListExperimentsRequest()
    refusal = await refused(service.admin.ListExperiments(request))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.UNAUTHENTICATED, "KEY_MISSING")
    wrong = [("authorization", "Bearer samplit_x_y")]
    refusal = await refused(service.admin.ListExperiments(request, metadata=wrong))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.UNAUTHENTICATED, "KEY_INVALID")
    key = new_key()
    connection = await connect(service.settings.stores[0])
    redis = service.application._redis
    await stored_keys.insert(
        connection,
        key_id=key.key_id,
        name="edge",
        secret_hash=key.secret_hash,
        scopes=("allocate",),
        actor="test",
        now=clock.now,
    )
    await api_keys.publish(redis, service.secrets, await stored_keys.active(connection))
    await service.application._authenticator.reload()
    edge = [("authorization", f"Bearer {key.text}")]
    refusal = await refused(service.admin.ListExperiments(request, metadata=edge))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.PERMISSION_DENIED, "SCOPE_MISSING")
    assert refusal.metadata == {"required_scope": "admin"}
    await service.running()
    allocate = pb.AllocateUserRequest(experiment_id="cta", user_identifier="u1")
    assert (await service.allocation.AllocateUser(allocate, metadata=edge)).variant_id
    assert await stored_keys.revoke(connection, key.key_id, actor="test", now=clock.now)
    await api_keys.publish(redis, service.secrets, await stored_keys.active(connection))
    await service.application._authenticator.reload()
    refusal = await refused(service.allocation.AllocateUser(allocate, metadata=edge))
    assert refusal.reason == "KEY_INVALID"
    await connection.close()


async def test_pages(service: Service) -> None:
    for n in range(5):
        await service.call("CreateExperiment", experiment=experiment(experiment_id=f"x{n}"))
    await service.call("StartExperiment", experiment_id="x1")
    first = await service.call("ListExperiments", page_size=3)
    rest = await service.call("ListExperiments", page_size=3, page_token=first.next_page_token)
    assert [e.experiment_id for e in (*first.experiments, *rest.experiments)] == ["x4", "x3", "x2", "x1", "x0"]
    assert not rest.next_page_token
    running = await service.call("ListExperiments", state=experiment_pb2.EXPERIMENT_STATE_RUNNING)
    assert [e.experiment_id for e in running.experiments] == ["x1"]
    for fields, path in (
        ({"page_size": -1}, "page_size"),
        ({"page_token": "garbage!"}, "page_token"),
        ({"page_token": first.next_page_token, "state": experiment_pb2.EXPERIMENT_STATE_DRAFT}, "page_token"),
        ({"state": 77}, "state"),
    ):
        refusal = await refused(service.call("ListExperiments", **fields))
        assert ((refusal.code, refusal.reason), refusal.fields) == (INVALID, [path])


async def test_etags_states_and_masks(service: Service) -> None:
    created = (await service.call("CreateExperiment", experiment=experiment())).experiment
    stale = experiment(name="New", etag="r99")
    refusal = await refused(service.call("UpdateExperiment", experiment=stale, update_mask={"paths": ["name"]}))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.ABORTED, "STALE_ETAG")
    fresh = experiment(name="New", etag=created.etag)
    updated = (await service.call("UpdateExperiment", experiment=fresh, update_mask={"paths": ["name"]})).experiment
    assert (updated.name, updated.etag != created.etag) == ("New", True)
    for paths in ([], ["state"], ["nonsense"]):
        refusal = await refused(service.call("UpdateExperiment", experiment=fresh, update_mask={"paths": paths}))
        assert (refusal.code, refusal.reason) in (INVALID, (grpc.StatusCode.ABORTED, "STALE_ETAG"))
    refusal = await refused(service.call("PauseExperiment", experiment_id="cta"))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "EXPERIMENT_STATE")
    await service.call("StartExperiment", experiment_id="cta")
    late = experiment(holdout_share=0.1)
    refusal = await refused(service.call("UpdateExperiment", experiment=late, update_mask={"paths": ["holdout_share"]}))
    assert refusal.reason == "EXPERIMENT_STATE"
    fewer = experiment()
    del fewer.variants[1]
    refusal = await refused(service.call("UpdateExperiment", experiment=fewer, update_mask={"paths": ["variants"]}))
    assert refusal.fields == ["experiment.variants"]
    refusal = await refused(service.call("CompleteExperiment", experiment_id="cta", winner_variant_id="nope"))
    assert refusal.fields == ["winner_variant_id"]
    refusal = await refused(service.call("GetExperiment", experiment_id="nowhere"))
    assert refusal.code == grpc.StatusCode.NOT_FOUND


async def test_request_ids(service: Service) -> None:
    message = experiment()
    first = await service.call("CreateExperiment", experiment=message, request_id="r1")
    assert await service.call("CreateExperiment", experiment=message, request_id="r1") == first
    refusal = await refused(service.call("CreateExperiment", experiment=message))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.ALREADY_EXISTS, "EXPERIMENT_EXISTS")
    refusal = await refused(
        service.call("CreateExperiment", experiment=experiment(experiment_id="else"), request_id="r1")
    )
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.ALREADY_EXISTS, "REQUEST_ID_REUSED")
    refusal = await refused(service.call("CreateExperiment", experiment=message, request_id="x" * 65))
    assert refusal.fields == ["request_id"]


async def test_batches_say_what_is_wrong_item_by_item(service: Service) -> None:
    await service.running()
    requests = [
        pb.AllocateUserRequest(experiment_id="cta", user_identifier="u1"),
        pb.AllocateUserRequest(experiment_id="cta"),
        pb.AllocateUserRequest(experiment_id="nowhere", user_identifier="u1"),
        pb.AllocateUserRequest(experiment_id="cta", user_identifier="u1"),
    ]
    answer = await service.allocation.AllocateUsers(
        pb.AllocateUsersRequest(requests=requests), metadata=service.metadata
    )
    good, empty, unknown, again = answer.items
    assert good.status.code == again.status.code == 0
    assert good.allocation.variant_id == again.allocation.variant_id
    assert (read(empty.status).code, read(empty.status).fields) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        ["user_identifier"],
    )
    assert read(unknown.status).code == grpc.StatusCode.NOT_FOUND
    assert list(answer.variants) == [f"cta/{good.allocation.variant_id}"]
    conversions = [
        pb.RecordConversionRequest(assignment_id=good.allocation.assignment_id, event_id="e"),
        pb.RecordConversionRequest(assignment_id=good.allocation.assignment_id),
    ]
    recorded = await service.allocation.RecordConversions(
        pb.RecordConversionsRequest(requests=conversions), metadata=service.metadata
    )
    assert recorded.items[0].results[0].outcome == pb.CONVERSION_OUTCOME_RECORDED
    assert read(recorded.items[1].status).fields == ["event_id"]
    refusal = await refused(
        service.allocation.AllocateUsers(
            pb.AllocateUsersRequest(requests=[requests[0]] * 1001), metadata=service.metadata
        )
    )
    assert refusal.fields == ["requests"]


async def test_an_oversized_message(service: Service) -> None:
    request = pb.AllocateUserRequest(experiment_id="cta", user_identifier="x" * (5 * 1024 * 1024))
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await service.allocation.AllocateUser(request, metadata=service.metadata)
    assert failed.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
