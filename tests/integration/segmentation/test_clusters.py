"""Clusters are trained and serve; they are retrained, renamed, reverted, and damaged."""

import asyncio
from typing import Any

from grpc import StatusCode as Code
from redis.asyncio import Redis
from samplit.admin.v1 import experiment_pb2
from samplit.allocation.v1 import allocation_service_pb2 as pb

from server.runtime.worker import run_worker
from server.worker.training.cluster_trainer import ClusterTrainer
from storage.encryption import load_secrets
from storage.postgres.pool import connect, create_pool
from storage.redis import keys
from tests.conftest import Clock
from tests.support.clusters import (
    AUTO,
    BY_CLUSTERS,
    RUNNING,
    SUCCEEDED,
    clustered,
    crowd,
    member,
    status,
    trained,
)
from tests.support.segmentation import allocate, counts_agree, drained, load_on, serving
from tests.support.service import Service
from tests.support.status import refused
from tests.support.waiting import PATIENCE_SECONDS, eventually


async def refuses(service: Service, code: Code, text: str, method: str, **fields: Any) -> None:
    refusal = await refused(service.call(method, **fields))
    assert refusal.code is code
    assert text in refusal.message


async def test_audiences_are_found_named_and_served(service: Service, worker: None, dsn: str, redis: Redis) -> None:
    answers = await clustered(service)
    assert [key for key, *_ in await counts_agree(dsn)] == ["cluster:1", "cluster:2", "cluster:3"]
    model = (await status(service)).model
    assert [round(cluster.share, 1) for cluster in model.clusters] == [0.5, 0.3, 0.2]
    assert (model.assignments, model.sampled, model.model_version) == (1_200, 1_200, 1)
    new = await allocate(service, [member(audience, 5_000 + n, purity=1) for audience in range(3) for n in range(5)])
    assert [answer.segment_key for answer in new] == ["cluster:1"] * 5 + ["cluster:2"] * 5 + ["cluster:3"] * 5
    names = [cluster.name for cluster in model.clusters]
    assert [answer.segment_display_name for answer in new[::5]] == names
    assert "Instagram" in names[0]
    assert "Google" in names[1]
    again = await allocate(service, crowd(1_200))
    assert [(a.variant_id, a.segment_key) for a in again] == [(a.variant_id, "global") for a in answers]
    await service.learned("cta", 1_215)
    segments = (await service.call("ListSegments", experiment_id="cta")).segments
    assert {s.segment_key: s.allocations for s in segments} == {"cluster:1": 605, "cluster:2": 365, "cluster:3": 245}
    assert {s.segment_display_name for s in segments} == set(names)
    for refusal, name, *segment_keys in (
        (Code.ALREADY_EXISTS, names[1], "cluster:1"),
        (Code.INVALID_ARGUMENT, "x" * 41, "cluster:1"),
        (Code.NOT_FOUND, "x", "cluster:9", "source:google", "cluster:", "global", "cluster:²"),
    ):
        for key in segment_keys:
            await refuses(service, refusal, "", "RenameCluster", experiment_id="cta", segment_key=key, name=name)
    sealed = await redis.hget(keys.experiment("cta"), "model:1")
    assert sealed is not None
    for word in (b"instagram", b"mobile", b"centroids"):
        assert word not in sealed
    for step in ("a user who is like nobody", "a user of whom nothing is known"):
        answer = await service.allocate("cta", step, attributes={"plan": "x" * 200} if "like" in step else {})
        assert answer.segment_key.startswith("cluster:")


async def test_one_training_at_a_time(service: Service, worker: None) -> None:
    await service.running()
    await allocate(service, crowd(1_200))
    await service.learned("cta", 1_200)
    jobs = [await service.call("TrainClusterModel", experiment_id="cta") for _ in range(3)]
    assert len({answer.job.job_id for answer in jobs}) == 1
    assert (await trained(service)).model_version == 1
    answer = await status(service)
    assert not answer.HasField("model")  # the mode is DISABLED, so the model does not serve yet
    assert "DISABLED" in answer.summary
    models = (await service.call("ListClusterModels", experiment_id="cta")).models
    assert [len(model.clusters) for model in models] == [3]
    config = experiment_pb2.SegmentationConfig(mode=AUTO)
    mask = {"paths": ["mode"]}
    changed = await service.call("UpdateSegmentationConfig", experiment_id="cta", config=config, update_mask=mask)
    assert changed.segmentation.pending.model_version == 1
    assert (await serving(service, 2)).config.model_version == 1


async def test_what_is_not_enough_is_said(service: Service, worker: None, clock: Clock) -> None:
    await service.running(segmentation=BY_CLUSTERS)
    await allocate(service, crowd(312))
    await service.learned("cta", 312)
    await refuses(
        service, Code.FAILED_PRECONDITION, "312 assignments: 1,000 are needed", "TrainClusterModel", experiment_id="cta"
    )
    answer = await status(service)
    assert answer.summary == "waiting for 1,000 assignments: there are 312"
    assert not answer.HasField("job")
    for method in ("TrainClusterModel", "GetClusteringStatus", "ListClusterModels"):
        await refuses(service, Code.NOT_FOUND, "nowhere", method, experiment_id="nowhere")
    await refuses(
        service, Code.NOT_FOUND, "no cluster model 7", "ActivateClusterModel", experiment_id="cta", model_version=7
    )
    await refuses(
        service, Code.INVALID_ARGUMENT, "model_version: must be 1 or more", "ActivateClusterModel", experiment_id="cta"
    )
    config = experiment_pb2.SegmentationConfig(mode=AUTO, max_clusters=1)
    await refuses(
        service,
        Code.INVALID_ARGUMENT,
        "config.max_clusters: must be 2 to 20",
        "UpdateSegmentationConfig",
        experiment_id="cta",
        config=config,
        update_mask={"paths": ["max_clusters"]},
    )


async def test_users_who_are_all_alike_are_one_cluster(service: Service, worker: None) -> None:
    await service.running(segmentation=BY_CLUSTERS)
    users = [f"u{n}" for n in range(1_000)]
    await allocate(service, [pb.AllocateUserRequest(experiment_id="cta", user_identifier=user) for user in users])
    await service.learned("cta", 1_000)
    await service.call("TrainClusterModel", experiment_id="cta")
    await trained(service)
    await serving(service, 2)
    answer = await status(service)
    assert [(cluster.name, cluster.share) for cluster in answer.model.clusters] == [("Everyone", 1.0)]
    assert "no audiences were found" in answer.summary
    assert not answer.evidence.is_enough


async def test_retraining_under_load_and_back(service: Service, worker: None, dsn: str, redis: Redis) -> None:
    """No user changes variant, no call fails, audiences keep keys and names, and counts agree with the log."""
    await clustered(service)
    before = {cluster.segment_key: cluster.name for cluster in (await status(service)).model.clusters}
    named = await service.call("RenameCluster", experiment_id="cta", segment_key="cluster:2", name=" The Germans ")
    assert (named.cluster.name, named.cluster.renamed) == ("The Germans", True)
    typical = member(1, 1, purity=1)
    answer = await service.allocate("cta", "new", web=typical.web, attributes=typical.attributes)
    assert (answer.segment_key, answer.segment_display_name) == ("cluster:2", "The Germans")
    await allocate(service, crowd(800, first=20_000))
    async with load_on(service) as answered:
        await service.call("TrainClusterModel", experiment_id="cta")
        await serving(service, 3)
        seen = len(answered)
        await eventually(lambda: len(answered) > seen + 20)
    variants: dict[int, set[str]] = {}
    for user, variant in answered:
        variants.setdefault(user, set()).add(variant)
    assert len(answered) > 200
    assert all(len(each) == 1 for each in variants.values())
    await drained(redis)
    assert sum(trials for _, trials, _ in await counts_agree(dsn)) == 1_200 + 1 + 800 + len(variants)
    new = await allocate(service, [member(audience, 30_000, purity=1) for audience in range(3)])
    assert [answer.segment_key for answer in new] == ["cluster:1", "cluster:2", "cluster:3"]
    clusters = {c.segment_key: (c.name, c.kept) for c in (await status(service)).model.clusters}
    names = before | {"cluster:2": "The Germans"}
    assert {key: clusters[key] for key in names} == {key: (name, True) for key, name in names.items()}
    activated = await service.call("ActivateClusterModel", experiment_id="cta", model_version=1)
    assert (activated.model.model_version, activated.segmentation_version) == (1, 4)
    assert (await serving(service, 4)).config.model_version == 1
    again = await service.call("ActivateClusterModel", experiment_id="cta", model_version=1)
    assert again.segmentation_version == 4
    await counts_agree(dsn)
    back = await service.call("RenameCluster", experiment_id="cta", segment_key="cluster:2", name="")
    assert (back.cluster.name, back.cluster.renamed) == (before["cluster:2"], False)


async def test_a_damaged_model_does_not_serve(service: Service, worker: None, dsn: str, redis: Redis) -> None:
    answers = await clustered(service)
    await service.call("TrainClusterModel", experiment_id="cta")
    await serving(service, 3)
    connection = await connect(dsn)
    damage = "UPDATE clustering_models SET ciphertext = set_byte(ciphertext, 40, get_byte(ciphertext, 40) # 1)"
    await connection.execute(damage)
    await refuses(
        service,
        Code.FAILED_PRECONDITION,
        "damaged, or its key is missing",
        "ActivateClusterModel",
        experiment_id="cta",
        model_version=1,
    )
    # This skips that check, as if the model had been damaged a moment later:
    await connection.execute(
        """
        INSERT INTO pending_segmentations (experiment_no, segmentation_version, mode, segment_by, actor, created_at,
            model_version) SELECT experiment_no, 4, 'AUTO', '{}', 'samplit', now(), 1 FROM experiments
        """
    )
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not (await service.call("ListClusterModels", experiment_id="cta")).models[1].problem:
            await asyncio.sleep(0.05)
    assert (await serving(service, 3)).config.model_version == 2
    assert "damaged" in (await status(service)).summary
    assert await connection.fetchval("SELECT count(*) FROM audit_events WHERE action = 'segmentation.refused'") == 1
    assert await connection.fetchval("SELECT kind FROM alerts") == "AUTO_ACTIVATION_FAILED"
    new = await service.allocate("cta", "new", web=member(0, 1, purity=1).web)
    assert new.segment_key == "cluster:1"  # decided by the model in the process's memory
    await redis.hdel(keys.experiment("cta"), "model:2")
    service.application.data_plane.catalog._snapshots.clear()
    blind = await service.allocate("cta", "newer", web=member(0, 1, purity=1).web)
    assert blind.segment_key == "other"
    assert blind.reason in (pb.REASON_FALLBACK, pb.REASON_BASELINE)
    assert (await service.allocate("cta", "a0-3")).variant_id == answers[3].variant_id
    await connection.execute(f"{damage} WHERE model_version = 1")  # damaging twice restores the bytes
    await service.call("ActivateClusterModel", experiment_id="cta", model_version=1)
    assert (await serving(service, 4)).config.model_version == 1
    assert not (await status(service)).model.problem
    await connection.execute("UPDATE experiment_segmentation_config SET model_version = 2")
    await service.call("TrainClusterModel", experiment_id="cta")
    clusters = (await serving(service, 5)).config.model_version, (await status(service)).model.clusters
    assert clusters[0] == 3
    assert [(each.segment_key, each.kept) for each in clusters[1]] == [(f"cluster:{n}", True) for n in (1, 2, 3)]
    await connection.close()


async def test_a_worker_that_stops_is_followed_by_another(service: Service, clock: Clock) -> None:
    async def begin() -> asyncio.Task[None]:
        ready = asyncio.Event()
        task = asyncio.create_task(run_worker(service.settings, clock, ready))
        await ready.wait()
        return task

    first = await begin()
    await service.running(segmentation=BY_CLUSTERS)
    await allocate(service, crowd(1_200))
    await service.learned("cta", 1_200)
    job = (await service.call("TrainClusterModel", experiment_id="cta")).job
    async with asyncio.timeout(PATIENCE_SECONDS):
        while (await status(service)).job.state != RUNNING:
            await asyncio.sleep(0.02)
    first.cancel()
    await asyncio.wait({first})
    assert (await status(service)).job.state == RUNNING
    second = await begin()
    ended = await trained(service)
    assert (ended.job_id, ended.state) == (job.job_id, SUCCEEDED)
    await serving(service, 2)
    second.cancel()
    await asyncio.wait({second})


async def test_models_are_trained_when_they_are_due(service: Service, clock: Clock, dsn: str) -> None:
    """A training is due at 1,000 users, when their number has doubled, and after seven days."""
    ready = asyncio.Event()
    worker = asyncio.create_task(run_worker(service.settings, clock, ready))
    await ready.wait()
    await service.running(segmentation=BY_CLUSTERS)
    pool = await create_pool(dsn, size=2)
    trainer = ClusterTrainer(pool, load_secrets(service.settings.secrets_directory), clock)
    await allocate(service, crowd(900))
    await service.learned("cta", 900)
    assert await trainer.request_due_trainings() == []
    await allocate(service, crowd(300, first=1_000))
    await service.learned("cta", 1_200)
    (job,) = await trainer.request_due_trainings()
    assert await trainer.request_due_trainings() == [job]  # a second request asks for nothing new
    await trainer.train(job)
    await serving(service, 2)
    assert await trainer.request_due_trainings() == []
    clock.advance(days=6)
    assert await trainer.request_due_trainings() == []
    await allocate(service, crowd(1_300, first=40_000))
    await service.learned("cta", 2_500)
    (job,) = await trainer.request_due_trainings()
    await trainer.train(job)
    await serving(service, 3)
    assert await trainer.request_due_trainings() == []
    await service.call("ActivateClusterModel", experiment_id="cta", model_version=1)
    assert (await serving(service, 4)).config.model_version == 1
    clock.advance(days=2)
    assert await trainer.request_due_trainings() == []  # the first model is eight days old, and was chosen
    clock.advance(days=6)
    (job,) = await trainer.request_due_trainings()
    await service.call("ActivateClusterModel", experiment_id="cta", model_version=2)
    await trainer.train(job)
    assert (
        await serving(service, 5)
    ).config.model_version == 2  # an operator chose the model while the third was trained
    versions = [model.model_version for model in (await service.call("ListClusterModels", experiment_id="cta")).models]
    assert versions == [3, 2, 1]
    await pool.close()
    worker.cancel()
    await asyncio.wait({worker})
