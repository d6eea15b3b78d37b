"""Segmentations change while an experiment runs; calls list segments and break down audiences."""

import asyncio
from itertools import count
from typing import Any

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from redis.asyncio import Redis
from samplit.admin.v1 import experiment_pb2, segmentation_service_pb2
from samplit.allocation.v1 import allocation_service_pb2 as pb
from samplit.allocation.v1 import context_pb2

from allocator.experiment import SegmentationMode
from server.alerts.faults import Faults
from server.worker.segment_admission import SegmentAdmission
from storage.postgres.pool import connect, create_pool
from storage.postgres.segmentation import segmentations
from storage.redis import bot_requests, keys
from storage.redis.segment_registry import load
from tests.conftest import Clock
from tests.support.segmentation import (
    DEVICES,
    DISABLED,
    MANUAL,
    SOURCES,
    allocate,
    convert,
    counts_agree,
    drained,
    load_on,
    request,
    serving,
    update,
)
from tests.support.service import Service
from tests.support.status import refused
from tests.support.waiting import PATIENCE_SECONDS


async def test_history_is_read_again_under_new_dimensions(service: Service, worker: None, dsn: str) -> None:
    await service.running()
    answers = await allocate(service, [request(n) for n in range(60)])
    assert {answer.segment_key for answer in answers} == {"global"}
    await convert(service, answers[::5])
    await service.learned("cta", 60, 12)
    pending = (await update(service, MANUAL, ["source", "device"])).pending
    assert (pending.segmentation_version, list(pending.segment_by)) == (2, ["source", "device"])
    assert list((await serving(service, 2)).config.segment_by) == ["source", "device"]
    assert await counts_agree(dsn) == [
        (f"source:{s}|device:{d}", 10, 2) for s in sorted(SOURCES) for d in sorted(DEVICES)
    ]
    again = await allocate(service, [request(n) for n in range(60)])
    assert [a.variant_id for a in again] == [a.variant_id for a in answers]
    assert {answer.segment_key for answer in again} == {"global"}  # users keep the segment that they were answered with
    new = await allocate(service, [request(n) for n in range(60, 120)])
    assert {answer.segment_key for answer in new} == {f"source:{s}|device:{d}" for s in SOURCES for d in DEVICES}
    await convert(service, [answers[1]])
    await service.learned("cta", 120, 13)
    assert {key: wins for key, _, wins in await counts_agree(dsn)}["source:google|device:desktop"] == 3
    await update(service, DISABLED)
    await serving(service, 3)
    assert await counts_agree(dsn) == [("global", 120, 13)]
    kept = await allocate(service, [request(n) for n in range(60, 120)])
    assert [(a.variant_id, a.segment_key) for a in kept] == [(a.variant_id, a.segment_key) for a in new]


async def test_changes_under_load_fail_no_call_and_move_no_user(
    service: Service, worker: None, redis: Redis, dsn: str
) -> None:
    await service.running()
    changes = [(MANUAL, ["source"]), (MANUAL, ["device", "source"]), (MANUAL, ["hour"]), (DISABLED, [])]
    async with load_on(service) as answered:
        for version, change in enumerate(changes, 2):
            seen = len(answered)
            while len(answered) < seen + 200:
                await asyncio.sleep(0.01)
            await update(service, *change)
            await serving(service, version)
    variants: dict[int, set[str]] = {}
    for user, variant in answered:
        variants.setdefault(user, set()).add(variant)
    assert all(len(of_user) == 1 for of_user in variants.values())
    assert len(variants) > 400
    await drained(redis)
    results = await service.call("GetExperimentResults", experiment_id="cta")
    assert sum(total.allocations for total in results.totals) == len(variants)
    assert sum(total.conversions for total in results.totals) > len(variants) / 10
    assert [key for key, _, _ in await counts_agree(dsn)] == ["global"]


async def test_a_newer_wish_replaces_what_is_being_prepared(service: Service, dsn: str) -> None:
    """There is no worker, so nothing is prepared."""
    await service.running()
    assert (await update(service, MANUAL, ["source"])).pending.segmentation_version == 2
    assert (await update(service, MANUAL, ["source"])).pending.segmentation_version == 2
    assert (await update(service, MANUAL, ["device"])).pending.segmentation_version == 3
    assert not (await update(service, DISABLED)).HasField("pending")
    connection = await connect(dsn)
    events = await connection.fetch(
        "SELECT actor, action, before, after FROM audit_events WHERE starts_with(action, 'seg') ORDER BY event_no"
    )
    await connection.close()
    assert [event["action"] for event in events] == ["segmentation.update"] * 4
    assert [(event["before"], event["after"]) for event in events[1:3]] == [
        ({}, {}),
        ({"segment_by": ["source"]}, {"segment_by": ["device"]}),
    ]
    assert len({event["actor"] for event in events}) == 1


async def test_a_worker_that_was_killed_is_followed_by_another(
    service: Service, worker: None, dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Users are labelled in chunks of ten, with an outage after the second. No chunk is counted twice."""
    from server.worker import resegmenter
    from storage.postgres.segmentation import segmentations

    label, chunks = segmentations.label_chunk, count()

    async def interrupted(*arguments: Any) -> bool:
        if next(chunks) == 2:
            raise OSError("killed")
        return await label(*arguments)

    monkeypatch.setattr(resegmenter, "_CHUNK", 10)
    monkeypatch.setattr(segmentations, "label_chunk", interrupted)
    await service.running()
    await convert(service, (await allocate(service, [request(n) for n in range(60)]))[::3])
    await service.learned("cta", 60, 20)
    await update(service, MANUAL, ["source"])
    await serving(service, 2)
    assert next(chunks) > 6
    assert await counts_agree(dsn) == [
        ("source:facebook", 20, 0),
        ("source:google", 20, 0),
        ("source:instagram", 20, 20),
    ]


async def test_fields_of_the_configuration(service: Service) -> None:
    await service.running()

    async def change(paths: list[str], etag: str = "", **fields: Any) -> Any:
        config = experiment_pb2.SegmentationConfig(**fields)
        return await service.call(
            "UpdateSegmentationConfig",
            experiment_id="cta",
            config=config,
            update_mask=FieldMask(paths=paths),
            etag=etag,
        )

    changed = (await change(["max_segments", "min_samples_per_segment"], max_segments=7)).segmentation
    assert (changed.config.max_segments, changed.config.min_samples_per_segment) == (7, 100)
    assert not changed.HasField("pending")
    refusal = await refused(change(["mode"], mode=MANUAL))
    assert (refusal.code, refusal.fields) == (grpc.StatusCode.INVALID_ARGUMENT, ["config.segment_by"])
    refusal = await refused(change(["mode", "segment_by"], mode=MANUAL, segment_by=["sauce"]))
    assert "source" in refusal.message
    assert refusal.fields == ["config.segment_by[0]"]
    refusal = await refused(change(["max_segments"], max_segments=1_001))
    assert refusal.fields == ["config.max_segments"]
    assert (await refused(change([]))).fields == ["update_mask"]
    assert (await refused(change(["colour"]))).fields == ["update_mask"]
    assert (await refused(change(["mode"], mode=4))).fields == ["config.mode"]
    refusal = await refused(change(["mode", "segment_by"], mode=3, segment_by=["source"]))
    assert refusal.fields == ["config.segment_by"]
    assert (await refused(change(["mode"], etag="r1"))).code is grpc.StatusCode.ABORTED
    unknown = service.call("GetSegmentationConfig", experiment_id="nowhere")
    assert (await refused(unknown)).code is grpc.StatusCode.NOT_FOUND


async def test_segments_are_listed_in_order_and_pages(service: Service, worker: None) -> None:
    await service.running(segmentation=experiment_pb2.SegmentationConfig(mode=MANUAL, segment_by=["source"]))
    sizes = {"instagram": 30, "google": 20, "bing": 10}
    users = [request(n, utm_source=s) for n, s in enumerate(s for s, size in sizes.items() for _ in range(size))]
    answers = await allocate(service, users)
    await convert(service, [*answers[:3], *answers[30:50:2]])
    await service.learned("cta", 60, 13)

    async def listed(**fields: Any) -> Any:
        return await service.call("ListSegments", experiment_id="cta", **fields)

    first = (await listed()).segments[0]
    assert (first.segment_key, first.segment_display_name) == ("source:instagram", "Instagram")
    assert (first.allocations, first.conversions, first.trials, first.traffic_share) == (30, 3, 30, 0.5)
    assert first.rate.lower < first.rate.value == 0.1 < first.rate.upper
    assert first.leading_variant_id in ("control", "a", "b")
    assert first.leading_probability > 1 / 3
    by_rate = [s.segment_key for s in (await listed(order=segmentation_service_pb2.SEGMENT_ORDER_RATE)).segments]
    assert by_rate == ["source:google", "source:instagram", "source:bing"]
    assert [s.segment_key for s in (await listed(filter="GOOG")).segments] == ["source:google"]
    page = await listed(page_size=2)
    rest = await listed(page_size=2, page_token=page.next_page_token)
    assert [s.allocations for s in [*page.segments, *rest.segments]] == [30, 20, 10]
    assert not rest.next_page_token
    assert (await refused(listed(page_token=page.next_page_token, filter="x"))).fields == ["page_token"]
    assert (await refused(listed(page_size=-1))).fields == ["page_size"]
    assert (await refused(listed(order=9))).fields == ["order"]


async def test_audiences_are_broken_down_while_nothing_is_segmented(service: Service, worker: None) -> None:
    await service.running()
    answers = await allocate(service, [request(n) for n in range(60)])
    await convert(service, answers[::6])
    await service.learned("cta", 60, 10)

    async def breakdown(*dimensions: str, limit: int = 0) -> Any:
        return await service.call("GetAudienceBreakdown", experiment_id="cta", dimensions=dimensions, limit=limit)

    by_source = await breakdown("source")
    assert [(list(g.values), g.allocations, g.conversions) for g in by_source.groups] == [
        (["facebook"], 20, 0),
        (["google"], 20, 0),
        (["instagram"], 20, 10),
    ]
    assert by_source.groups[2].rate.value == 0.5
    assert not by_source.HasField("rest")
    both = await breakdown("device", "source", limit=2)
    assert [list(g.values) for g in both.groups] == [["desktop", "facebook"], ["desktop", "google"]]
    assert (both.rest.allocations, both.rest.conversions, list(both.rest.values)) == (40, 10, [])
    assert [list(g.values) for g in (await breakdown("attributes.plan")).groups] == [["unknown"]]
    for wrong in ((), ("source", "device", "os"), ("sauce",), ("source", "source")):
        assert (await refused(breakdown(*wrong))).fields[0].startswith("dimensions")
    assert (await refused(breakdown("source", limit=-1))).fields == ["limit"]


async def test_bots_get_control_and_are_counted_apart(service: Service, worker: None, redis: Redis) -> None:
    await service.running()
    crawler = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"
    for n in range(3):
        answer = await service.allocate("cta", f"bot{n}", web=context_pb2.WebContext(user_agent=crawler))
        assert (answer.variant_id, answer.reason, answer.assignment_id) == ("control", pb.REASON_BOT, "")
    await service.application.flush()
    async with asyncio.timeout(PATIENCE_SECONDS):
        while (await service.call("GetExperimentResults", experiment_id="cta")).bot_requests != 3:
            await asyncio.sleep(0.1)
    assert await bot_requests.take(redis) == {}
    assert (await service.call("GetAudienceBreakdown", experiment_id="cta", dimensions=["source"])).bot_requests == 3
    assert not await redis.keys("{s*:a:*")


async def test_a_flood_of_values_leaves_the_real_segments(
    service: Service, worker: None, redis: Redis, dsn: str, clock: Clock
) -> None:
    """A flood of junk values takes every segment first. Real sources replace them; users keep their segments."""
    config = experiment_pb2.SegmentationConfig(mode=MANUAL, segment_by=["source"], max_segments=10)
    await service.running(segmentation=config)
    flood = await allocate(service, [request(n, utm_source=f"junk{n}") for n in range(300)])
    assert len({answer.segment_key for answer in flood} - {"other"}) == 10
    early = await allocate(service, [request(n) for n in range(300, 390)])
    assert {answer.segment_key for answer in early} == {"other"}
    await service.learned("cta", 390)
    pool = await create_pool(dsn, size=1)
    await SegmentAdmission(pool, redis, clock, Faults(clock)).run_once()
    await pool.close()
    registry = keys.segments(1, 1)
    registered = await load(redis, registry)
    assert {f"source:{source}" for source in SOURCES} < set(registered.active)
    assert (len(registered.active), len(registered.retired)) == (10, 3)
    async with asyncio.timeout(PATIENCE_SECONDS):
        while (await allocate(service, [request(390)]))[0].segment_key == "other":
            await asyncio.sleep(0.05)
    late = await allocate(service, [request(n) for n in range(391, 450)])
    assert {answer.segment_key for answer in late} == {f"source:{source}" for source in SOURCES}
    kept = await allocate(service, [request(n, utm_source=f"junk{n}") for n in range(300)])
    assert [a.segment_key for a in kept] == [a.segment_key for a in flood]
    assert {a.segment_key for a in await allocate(service, [request(n) for n in range(300, 390)])} == {"other"}
    numbers = {**registered.active, **{key: -number for key, number in registered.retired.items()}}
    connection = await connect(dsn)
    rows = await connection.fetch(
        "SELECT segment_key, segment_no, retired FROM experiment_segments WHERE segment_no > 1"
    )
    await connection.close()
    assert {r["segment_key"]: -r["segment_no"] if r["retired"] else r["segment_no"] for r in rows} == numbers


async def test_keys_in_sql_are_those_of_contexts(service: Service, worker: None, dsn: str) -> None:
    """For any value, SQL labels earlier users with the segment key that a new user is answered with."""
    await service.running()
    odd = [
        "a|b",
        "c:d",
        "e%f",
        "%7C",
        "Ünï çødé",
        "日本",
        "'; DROP TABLE x",
        "\\",
        "{}",
        '"',
        "",
        "other",
        "global",
        "x" * 99,
    ]
    await allocate(service, [request(n, utm_source=value, utm_campaign=value) for n, value in enumerate(odd)])
    await service.learned("cta", len(odd))
    await update(service, MANUAL, ["campaign", "source"])
    await serving(service, 2)
    labelled = {key for key, _, _ in await counts_agree(dsn)}
    again = [request(n + 100, utm_source=value, utm_campaign=value) for n, value in enumerate(odd)]
    assert {answer.segment_key for answer in await allocate(service, again)} == labelled


async def test_history_beyond_the_largest_segments_is_seen(service: Service, worker: None) -> None:
    await service.running(segmentation=experiment_pb2.SegmentationConfig(max_segments=1))
    await allocate(service, [request(n) for n in range(60)])
    await service.learned("cta", 60)
    await update(service, MANUAL, ["source"])
    await serving(service, 2)
    results = await service.learned("cta", 60)
    assert sorted((segment.segment_key, segment.allocations) for segment in results.segments) == [
        ("other", 40),
        ("source:facebook", 20),
    ]


async def test_what_was_abandoned_leaves_its_number_behind(service: Service, dsn: str, clock: Clock) -> None:
    await service.running()
    connection = await connect(dsn)
    versions = []
    for _ in range(2):
        async with connection.transaction():
            versions.append(
                await segmentations.prepare(connection, 1, SegmentationMode.MANUAL, ["source"], "me", clock())
            )
            target = await segmentations.pending(connection, 1)
            assert target is not None
            await segmentations.choose(connection, target, {"source:google": 2})
    await connection.close()
    assert versions == [2, 3]
