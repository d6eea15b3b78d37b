"""The audit log: one event for each change, none for refused calls, and no event can be changed."""

from datetime import timedelta
from importlib.resources import as_file, files
from itertools import pairwise
from pathlib import Path
from shutil import copy
from typing import Any

import asyncpg
import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.json_format import MessageToDict
from google.protobuf.timestamp_pb2 import Timestamp
from pogo_core.util import migrate as pogo
from redis.asyncio import Redis
from samplit.admin.v1 import experiment_pb2, experiment_service_pb2

from server.maintenance import api_keys
from server.runtime.bootstrap import prepare_stores
from storage.postgres.pool import SCHEMA, connect
from storage.postgres.schema import drop_schema, migrate
from tests.conftest import Clock
from tests.support.clusters import AUTO, crowd, trained
from tests.support.segmentation import MANUAL, allocate, serving, update
from tests.support.service import Service, experiment, stamp
from tests.support.status import refused

INVALID = (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD")
Told = tuple[str, dict[str, Any], dict[str, Any]]


async def told(service: Service, action: str = "", **filters: Any) -> list[Told]:
    """Return action, before and after of the experiment's audit events, oldest first."""
    answer = await service.call(
        "ListAuditEvents", **{"experiment_id": "cta", "action_prefix": action, "page_size": 200, **filters}
    )
    assert not answer.next_page_token
    return [
        (event.action, MessageToDict(event.before), MessageToDict(event.after)) for event in reversed(answer.events)
    ]


async def change(service: Service, *paths: str, **fields: Any) -> Any:
    message = experiment(**fields)
    return await service.call("UpdateExperiment", experiment=message, update_mask={"paths": paths})


def variant(variant_id: str, text: str, position: int) -> dict[str, Any]:
    return {"name": variant_id.title(), "content": {"text": text}, "retired": False, "position": position}


async def test_a_creation_says_all_that_was_set(service: Service, clock: Clock) -> None:
    segmentation = experiment_pb2.SegmentationConfig(mode=MANUAL, segment_by=["source"], max_segments=7)
    message = experiment(owner="ana@example.com", maturity=Duration(seconds=3_600), segmentation=segmentation)
    await service.call("CreateExperiment", experiment=message)
    (event,) = (await service.call("ListAuditEvents")).events[:1]
    assert (event.actor, event.action, event.experiment_id) == (service.key.split("_")[1], "experiment.create", "cta")
    assert event.at == stamp(clock.now)
    assert not event.before.fields
    after = MessageToDict(event.after)
    known = {"name": "CTA", "state": "DRAFT", "owner": "ana@example.com", "maturity_seconds": 3_600}
    assert {name: after[name] for name in known} == known
    assert after["variants"] == {
        each: variant(each, f"text of {each}", position) for position, each in enumerate(("control", "a", "b"))
    }
    assert {name: after["segmentation"][name] for name in ("mode", "segment_by", "max_segments")} == {
        "mode": "MANUAL",
        "segment_by": ["source"],
        "max_segments": 7,
    }
    assert not {"salt", "number", "revision"} & after.keys()


async def test_every_change_of_an_experiment_leaves_one_event_with_what_differs(service: Service) -> None:
    await service.call("CreateExperiment", experiment=experiment())
    await change(service, "holdout_share", "name", holdout_share=0.05)
    await change(service, "name")
    await service.call("StartExperiment", experiment_id="cta")
    variants = experiment().variants
    variants[1].content["text"] = True
    variants[1].content["more"] = {"colour": "red"}
    variants[2].retired = True
    variants.add(variant_id="c", name="C", content={"text": "text of c"})
    await change(service, "variants", "maturity", variants=variants, maturity=Duration(seconds=600))
    variants[1].content["text"] = 1
    await change(service, "variants", variants=variants)
    await service.call("PauseExperiment", experiment_id="cta")
    await service.call("StartExperiment", experiment_id="cta")
    await service.call("CompleteExperiment", experiment_id="cta", winner_variant_id="a")
    assert (await told(service))[1:] == [
        ("experiment.update", {"holdout_share": 0}, {"holdout_share": 0.05}),
        ("experiment.update", {}, {}),
        ("experiment.start", {"state": "DRAFT"}, {"state": "RUNNING"}),
        (
            "experiment.update",
            {
                "variants": {"a": {"content": {"text": "text of a"}}, "b": {"retired": False}},
                "maturity_seconds": 0,
            },
            {
                "variants": {
                    "a": {"content": {"text": True, "more": {"colour": "red"}}},
                    "b": {"retired": True},
                    "c": variant("c", "text of c", 3),
                },
                "maturity_seconds": 600,
            },
        ),
        (
            "experiment.update",
            {"variants": {"a": {"content": {"text": True}}}},
            {"variants": {"a": {"content": {"text": 1}}}},
        ),
        ("experiment.pause", {"state": "RUNNING"}, {"state": "PAUSED"}),
        ("experiment.start", {"state": "PAUSED"}, {"state": "RUNNING"}),
        (
            "experiment.complete",
            {"state": "RUNNING", "winner_variant_id": ""},
            {"state": "COMPLETED", "winner_variant_id": "a"},
        ),
    ]


async def test_segmentations_and_clusters_leave_events_of_people_and_of_samplit(service: Service, worker: None) -> None:
    await service.running()
    await allocate(service, crowd(1_200))
    await service.learned("cta", 1_200)
    await update(service, MANUAL, ["source"])
    await serving(service, 2)
    for _ in range(2):
        await service.call("TrainClusterModel", experiment_id="cta")
    job = await trained(service)
    config = experiment_pb2.SegmentationConfig(mode=AUTO)
    mask = {"paths": ["mode"]}
    await service.call("UpdateSegmentationConfig", experiment_id="cta", config=config, update_mask=mask)
    await serving(service, 3)
    found = (await service.call("GetClusteringStatus", experiment_id="cta")).model.clusters[1].name
    await service.call("RenameCluster", experiment_id="cta", segment_key="cluster:2", name="The Germans")
    await update(service, MANUAL, ["device"])
    await serving(service, 4)
    await service.call("ActivateClusterModel", experiment_id="cta", model_version=1)
    await serving(service, 5)
    rules = [
        {"mode": mode, "segment_by": segment_by, "model_version": model, "segmentation_version": version}
        for version, (mode, segment_by, model) in enumerate(
            [
                ("DISABLED", [], None),
                ("MANUAL", ["source"], None),
                ("AUTO", [], 1),
                ("MANUAL", ["device"], None),
                ("AUTO", [], 1),
            ],
            1,
        )
    ]
    served = [("segmentation.serves", *pair) for pair in pairwise(rules)]
    wanted = [
        (
            "segmentation.update",
            {"mode": before["mode"], "segment_by": before["segment_by"]},
            {"mode": after["mode"], "segment_by": after["segment_by"]},
        )
        for before, after in pairwise(rules[:4])
    ]
    assert await told(service, actor=service.key.split("_")[1]) == [
        *(await told(service, "experiment.")),
        wanted[0],
        ("clusters.train", {}, {"job_id": job.job_id}),
        wanted[1],
        ("clusters.rename", {"cluster:2": found}, {"cluster:2": "The Germans"}),
        wanted[2],
        ("clusters.activate", {"mode": "MANUAL", "model_version": None}, {"mode": "AUTO", "model_version": 1}),
    ]
    assert await told(service, actor="samplit") == [
        served[0],
        ("clusters.trained", {}, {"model_version": 1, "clusters": 3}),
        *served[1:],
    ]


async def test_a_retry_leaves_no_second_event_and_a_refusal_none(service: Service) -> None:
    for _ in range(2):
        await service.call("CreateExperiment", experiment=experiment(), request_id="one")
        await service.call("StartExperiment", experiment_id="cta", request_id="two")
    before = await told(service)
    assert [action for action, *_ in before] == ["experiment.create", "experiment.start"]
    for call in (
        service.call("CreateExperiment", experiment=experiment()),
        service.call("StartExperiment", experiment_id="cta"),
        service.call("CompleteExperiment", experiment_id="cta", winner_variant_id="nope"),
        service.call("StartExperiment", experiment_id="cta", request_id="one"),
        change(service, "name", name="New", etag="r99"),
        change(service, "name", name=""),
        change(service, "holdout_share", holdout_share=0.1),
        change(service, "name", experiment_id="nowhere"),
        service.call("TrainClusterModel", experiment_id="cta"),
        service.call("ActivateClusterModel", experiment_id="cta", model_version=1),
        service.call("RenameCluster", experiment_id="cta", segment_key="cluster:1", name="x"),
        update(service, MANUAL, ["sauce"]),
    ):
        await refused(call)
    assert await told(service) == before
    assert await told(service, "experiment.", experiment_id="") == before


async def test_postgres_refuses_to_change_events(service: Service, dsn: str) -> None:
    await service.call("CreateExperiment", experiment=experiment())
    before = await told(service, experiment_id="")
    connection = await connect(dsn)
    owner = "SELECT tableowner = current_user FROM pg_tables WHERE tablename = 'audit_events'"
    assert await connection.fetchval(owner)
    for statement, verb in (
        ("UPDATE audit_events SET actor = 'nobody'", "UPDATE"),
        ("UPDATE audit_events SET actor = 'nobody' WHERE false", "UPDATE"),
        ("DELETE FROM audit_events", "DELETE"),
        ("TRUNCATE audit_events", "TRUNCATE"),
        ("TRUNCATE experiments CASCADE", "TRUNCATE"),
    ):
        with pytest.raises(asyncpg.RaiseError, match=f"^audit_events is append-only: {verb} is refused$"):
            await connection.execute(statement)
    assert await told(service, experiment_id="") == before
    await drop_schema(dsn)
    assert await connection.fetchval("SELECT to_regclass('samplit.audit_events')") is None
    await connection.close()


async def test_pages_and_filters(service: Service, clock: Clock) -> None:
    begin = clock.now
    for name in ("one", "two", "three"):
        await service.running(experiment_id=name)
        clock.advance(minutes=1)
    everything = (await service.call("ListAuditEvents")).events
    assert [(event.experiment_id, event.action) for event in everything] == [
        *((name, f"experiment.{verb}") for name in ("three", "two", "one") for verb in ("start", "create")),
        ("", "key.created"),
    ]
    filters = {"action_prefix": "experiment.", "since": stamp(begin)}
    first = await service.call("ListAuditEvents", page_size=4, **filters)
    token = first.next_page_token
    rest = await service.call("ListAuditEvents", page_size=4, page_token=token, **filters)
    assert ([*first.events, *rest.events], rest.next_page_token) == (everything[:6], "")

    async def found(**filters: Any) -> list[str]:
        events = (await service.call("ListAuditEvents", **filters)).events
        return [f"{event.experiment_id} {event.action}" for event in events]

    assert await found(experiment_id="two") == ["two experiment.start", "two experiment.create"]
    assert await found(experiment_id="two", action_prefix="experiment.s") == ["two experiment.start"]
    assert await found(action_prefix="start") == []
    assert await found(action_prefix="%") == []
    assert await found(actor="samplit") == [" key.created"]
    assert await found(actor="sampli") == []
    at = {name: stamp(begin + timedelta(minutes=n)) for n, name in enumerate(("one", "two"))}
    assert await found(since=at["one"], until=at["two"], experiment_id="one") == [
        "one experiment.start",
        "one experiment.create",
    ]
    assert await found(until=at["two"], experiment_id="two") == []
    assert len(await found(since=at["two"])) == 4
    for wrong, path in (
        ({"page_size": -1}, "page_size"),
        ({"page_token": "garbage!"}, "page_token"),
        ({"page_token": token}, "page_token"),
        ({"page_token": token, **filters, "actor": "samplit"}, "page_token"),
        ({"page_token": token, **filters, "experiment_id": "one"}, "page_token"),
        ({"page_token": token, **filters, "until": at["two"]}, "page_token"),
        ({"actor": "x" * 65}, "actor"),
        ({"action_prefix": "a\0"}, "action_prefix"),
        ({"experiment_id": "No Slug"}, "experiment_id"),
        ({"since": Timestamp(seconds=10**15)}, "since"),
        ({"since": at["two"], "until": at["two"]}, "until"),
    ):
        refusal = await refused(service.call("ListAuditEvents", **wrong))
        assert ((refusal.code, refusal.reason), refusal.fields) == (INVALID, [path])
    refusal = await refused(service.call("ListAuditEvents", experiment_id="nowhere"))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.NOT_FOUND, "EXPERIMENT_NOT_FOUND")


async def test_pages_of_large_events_fit_into_a_message(service: Service) -> None:
    message = experiment()
    for each in message.variants:
        each.content["text"] = "x" * 16_000
    for n in range(40):
        message.experiment_id = f"x{n}"
        await service.call("CreateExperiment", experiment=message)
    names, token = [], ""
    while not names or token:
        page = await service.call("ListAuditEvents", page_size=200, page_token=token, action_prefix="experiment.")
        assert page.ByteSize() < 2**20 + 1_000
        names += [event.experiment_id for event in page.events]
        token = page.next_page_token
    assert names == [f"x{n}" for n in reversed(range(40))]


async def test_keys_leave_events_without_secrets(service: Service, clock: Clock, dsn: str, redis: Redis) -> None:
    await prepare_stores(service.settings, clock)  # a second start creates no second key
    connection = await connect(dsn)
    by_cli = {"actor": "cli", "now": clock.now}
    key = await api_keys.create(connection, redis, service.secrets, name="edge", scopes=("allocate",), **by_cli)
    assert await api_keys.revoke(connection, redis, service.secrets, key.key_id, **by_cli)
    assert not await api_keys.revoke(connection, redis, service.secrets, key.key_id, **by_cli)
    first = {"key_id": service.key.split("_")[1], "name": "first key", "scopes": ["allocate", "admin"]}
    made = {"key_id": key.key_id, "name": "edge", "scopes": ["allocate"]}
    events = [
        ("key.created", {}, first),
        ("key.created", {}, made),
        ("key.revoked", made, {}),
    ]
    assert await told(service, "key.", experiment_id="") == events
    assert await told(service, "key.", experiment_id="", actor="samplit") == events[:1]
    assert await told(service, "key.", experiment_id="", actor="cli") == events[1:]
    text = await connection.fetchval("SELECT string_agg(e::text, ' ') FROM audit_events e")
    await connection.close()
    for secret in (service.key.strip(), key.text):
        assert secret.rpartition("_")[2] not in text
        assert api_keys.hash_key(secret).hex() not in text


async def test_events_name_the_key_beside_its_id(service: Service, dsn: str, redis: Redis, clock: Clock) -> None:
    connection = await connect(dsn)
    key = await api_keys.create(
        connection,
        redis,
        service.secrets,
        name="reporting",
        scopes=("admin",),
        lifetime=timedelta(days=1),
        actor="cli",
        now=clock.now,
    )
    await service.running(experiment_id="by-first")
    as_reporting = [("authorization", f"Bearer {key.text}")]
    await service.admin.PauseExperiment(
        experiment_service_pb2.PauseExperimentRequest(experiment_id="by-first"), metadata=as_reporting
    )
    await api_keys.revoke(connection, redis, service.secrets, key.key_id, actor="cli", now=clock.now)
    await connection.close()
    events = (await service.call("ListAuditEvents")).events
    assert [(event.action, event.actor, event.actor_name) for event in events] == [
        ("key.revoked", "cli", ""),
        ("experiment.pause", key.key_id, "reporting"),
        ("experiment.start", service.key.split("_")[1], "first key"),
        ("experiment.create", service.key.split("_")[1], "first key"),
        ("key.created", "cli", ""),
        ("key.created", "samplit", ""),
    ]
    assert events[4].after["expires_at"] == (clock.now + timedelta(days=1)).isoformat()


async def test_older_events_are_kept_in_the_new_words(dsn: str, tmp_path: Path) -> None:
    await drop_schema(dsn)
    with as_file(files("storage.postgres") / "migrations") as folder:
        for path in folder.glob("*.sql"):
            if path.name < "0008":
                copy(path, tmp_path)
    connection = await connect(dsn)
    await connection.execute(f"CREATE SCHEMA {SCHEMA}")
    await pogo.apply(connection, tmp_path, schema_name=SCHEMA)
    await connection.execute("ALTER TABLE audit_events DROP CONSTRAINT audit_events_experiment_no_fkey")
    await connection.executemany(
        "INSERT INTO audit_events (at, actor, action, experiment_no, detail) VALUES (now(), 'a', $1, 1, $2)",
        [
            ("segmentation.update", {"from": {"mode": "DISABLED"}, "to": {"mode": "AUTO"}}),
            ("segmentation.serves", {"from": ["hour"], "to": [], "mode": "AUTO", "model_version": 1}),
            ("clusters.rename", {"cluster": 3, "from": "Old", "to": "New"}),
            ("clusters.trained", {"model_version": 1, "clusters": 4}),
        ],
    )
    await migrate(dsn)
    rows = await connection.fetch("SELECT before, after FROM audit_events ORDER BY event_no")
    await connection.close()
    assert [tuple(row) for row in rows] == [
        ({"mode": "DISABLED"}, {"mode": "AUTO"}),
        ({"segment_by": ["hour"]}, {"segment_by": [], "mode": "AUTO", "model_version": 1}),
        ({"cluster:3": "Old"}, {"cluster:3": "New"}),
        ({}, {"model_version": 1, "clusters": 4}),
    ]
