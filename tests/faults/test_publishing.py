"""A process is killed at each step of a publication. Afterwards no user is decided by the prior."""

import asyncio
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from samplit.admin.v1 import experiment_pb2
from samplit.admin.v1.experiment_service_pb2 import UpdateExperimentRequest
from samplit.admin.v1.experiment_service_pb2_grpc import ExperimentServiceStub
from samplit.allocation.v1 import context_pb2

from server.runtime.worker import run_worker
from server.settings import Settings
from server.tasks import end
from storage.engines.embedded import StoreUrls
from storage.postgres.pool import connect
from tests.faults.installation import environment
from tests.support.proxy import Proxy
from tests.support.service import Service
from tests.support.waiting import PATIENCE_SECONDS

MANUAL = experiment_pb2.SEGMENTATION_MODE_MANUAL
SOURCES = ("instagram", "google", "facebook")
STEPS = {  # where the process is killed: a command to Redis, and which occurrence of it is not sent any more
    "before the first attempt": (b"_publish_experiment", 1),
    "before the index": (b"_publish_index_entry", 1),
    "before the configuration": (b"_publish_experiment", 2),
    "before the notice": (b"PUBLISH", 1),
}


@pytest.fixture
async def proxy(engines: StoreUrls, short_directory: Path) -> AsyncIterator[Proxy]:
    """A proxy between Redis and the process that is killed."""
    proxy = await Proxy.start(short_directory / "publishing.sock", Path(engines.redis_url[7:].split("?")[0]))
    yield proxy
    await proxy.stop()


async def start(role: str, settings: Settings, proxy: Proxy) -> asyncio.subprocess.Process:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "server.runtime.process", role),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env=environment() | settings.with_stores(settings.stores[0], proxy.url).environment(),
    )
    assert process.stdout is not None
    async with asyncio.timeout(PATIENCE_SECONDS):
        assert await process.stdout.readline() == b"ready\n"
    return process


async def kill_at(proxy: Proxy, process: asyncio.subprocess.Process, settings: Settings) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        await proxy.is_holding.wait()
    process.kill()
    await process.wait()
    await asyncio.sleep(2 * settings.poll_interval)  # the server that goes on polls what was published


async def allocate(service: Service, first: int, users: int) -> None:
    """Allocate users. Before the second half the server forgets its snapshots, like one that has just started."""
    for n in range(first, first + users):
        if n == first + users // 2:
            service.application.data_plane.catalog._snapshots.clear()
        web = context_pb2.WebContext(utm_source=SOURCES[n % len(SOURCES)])
        await service.allocate("cta", f"u{n}", web=web)


async def learn(service: Service) -> None:
    await service.running(holdout_share=0.0)
    await allocate(service, 0, 60)
    for n in range(0, 60, 2):
        await service.convert(experiment_id="cta", user_identifier=f"u{n}", event_id=f"e{n}")
    await service.learned("cta", 60, 30)


async def users_from_the_prior(dsn: str) -> int:
    connection = await connect(dsn)
    count: int = await connection.fetchval("SELECT count(*) FROM assignments WHERE posterior_version = 0")
    await connection.close()
    return count


async def is_segmented(service: Service) -> bool:
    segmentation = (await service.call("GetSegmentationConfig", experiment_id="cta")).segmentation
    return segmentation.config.mode == MANUAL and not segmentation.HasField("pending")


@pytest.mark.parametrize("step", STEPS)
async def test_a_worker_that_segments_anew(
    service: Service, settings: Settings, clock: Any, proxy: Proxy, dsn: str, step: str
) -> None:
    process = await start("worker", settings, proxy)
    await learn(service)
    before = await users_from_the_prior(dsn)

    proxy.hold_at(*STEPS[step])
    config = experiment_pb2.SegmentationConfig(mode=MANUAL, segment_by=["source"], min_samples_per_segment=0)
    mask = FieldMask(paths=["mode", "segment_by", "min_samples_per_segment"])
    await service.call("UpdateSegmentationConfig", experiment_id="cta", config=config, update_mask=mask)
    await kill_at(proxy, process, settings)
    await allocate(service, 60, 60)

    ready = asyncio.Event()
    worker = asyncio.create_task(run_worker(settings, clock, ready))
    await ready.wait()
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not await is_segmented(service):
            await asyncio.sleep(0.1)
    await allocate(service, 120, 60)
    await service.learned("cta", 180, 30)
    await end(worker)
    assert await users_from_the_prior(dsn) == before


@pytest.mark.parametrize("step", STEPS)
async def test_a_server_that_adds_a_variant(
    service: Service, settings: Settings, worker: None, proxy: Proxy, dsn: str, step: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process = await start("server", settings.model_copy(update={"admin_port": port}), proxy)
    await learn(service)
    before = await users_from_the_prior(dsn)

    proxy.hold_at(*STEPS[step])
    experiment = (await service.call("GetExperiment", experiment_id="cta")).experiment
    experiment.variants.add(variant_id="late", name="Late")
    request = UpdateExperimentRequest(experiment=experiment, update_mask=FieldMask(paths=["variants"]))
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = ExperimentServiceStub(channel).UpdateExperiment(request, metadata=service.metadata)
        await kill_at(proxy, process, settings)
        with pytest.raises(grpc.aio.AioRpcError):
            await call
    await allocate(service, 60, 60)
    await service.learned("cta", 120, 30)
    await allocate(service, 120, 60)
    await service.learned("cta", 180, 30)
    assert len((await service.call("GetExperiment", experiment_id="cta")).experiment.variants) == 4
    assert await users_from_the_prior(dsn) == before
