"""Clusters on a real installation, used from the command line. The worker is killed during a training."""

import asyncio
from pathlib import Path
from typing import Any

from samplit.admin.v1 import clustering_service_pb2 as pb
from samplit.admin.v1 import experiment_pb2, experiment_service_pb2
from samplit.allocation.v1 import allocation_service_pb2

from tests.faults.installation import Client, Installation, cli
from tests.support.clusters import RUNNING, SUCCEEDED, crowd
from tests.support.service import experiment
from tests.support.waiting import PATIENCE_SECONDS

AUTO = experiment_pb2.SegmentationConfig(mode=experiment_pb2.SEGMENTATION_MODE_AUTO)


async def status(client: Client) -> Any:
    request = pb.GetClusteringStatusRequest(experiment_id="cta")
    return await client.clustering.GetClusteringStatus(request, metadata=client.metadata)


async def until(client: Client, condition: Any) -> Any:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not condition(answer := await status(client)):
            await asyncio.sleep(0.05)
    return answer


async def test_a_killed_training_is_begun_anew(folder: Path) -> None:
    installation = Installation(folder)
    client = Client(await installation.start(), installation.key)
    create = experiment_service_pb2.CreateExperimentRequest(experiment=experiment(segmentation=AUTO))
    start = experiment_service_pb2.StartExperimentRequest(experiment_id="cta")
    await client.admin.CreateExperiment(create, metadata=client.metadata)
    await client.admin.StartExperiment(start, metadata=client.metadata)
    requests = crowd(1_200)
    for begin in (0, 600):
        batch = allocation_service_pb2.AllocateUsersRequest(requests=requests[begin : begin + 600])
        await client.allocation.AllocateUsers(batch, metadata=client.metadata)
    await until(client, lambda answer: answer.assignments == 1_200)
    asked = cli("clusters", "train", "cta", "--no-wait", "--data-dir", str(folder))
    assert "is under way" in asked.stdout
    job = (await until(client, lambda answer: answer.job.state == RUNNING)).job
    installation.recorded("worker").kill()
    assert (await status(client)).job.state == RUNNING
    ended = await until(client, lambda answer: answer.HasField("model"))
    assert (ended.job.job_id, ended.job.state) == (job.job_id, SUCCEEDED)
    shown = cli("clusters", "show", "cta", "--data-dir", str(folder)).stdout
    assert "cluster:1" in shown
    assert "Instagram" in shown
    renamed = cli("clusters", "rename", "cta", "cluster:1", "The [Insta] crowd", "--data-dir", str(folder))
    assert "'The [Insta] crowd'" in renamed.stdout
    assert "The [Insta] crowd (50%)" in cli("clusters", "status", "cta", "--data-dir", str(folder)).stdout
    missing = cli("clusters", "show", "cta", "--model", "7", "--data-dir", str(folder))
    assert (missing.returncode, "no cluster model 7" in missing.stderr) == (1, True)
    again = cli("clusters", "train", "cta", "--data-dir", str(folder))
    assert "model 2 is trained" in again.stdout
    assert "moves to model 1" in cli("clusters", "activate", "cta", "1", "--data-dir", str(folder)).stdout
    await client.close()
    assert await installation.stop() == 0
