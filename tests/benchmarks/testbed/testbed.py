"""A server and its references side by side: who runs where, and rounds of load that take turns.

Two cores: the server, or the no-op that stands in for it, has one to itself; the load generator and Valkey share the
other. The worker is held while a round is measured, for it would take the place of machines that are not here; what it
costs is the figure `drain`.
"""

import asyncio
import os
import secrets
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import psutil
from redis.asyncio import Redis
from samplit.admin.v1 import clustering_service_pb2, experiment_pb2, segmentation_service_pb2
from samplit.admin.v1 import experiment_service_pb2 as admin

from server.runtime.supervision.endpoints import Endpoints
from tests.benchmarks.load import messages
from tests.benchmarks.load.generator import Outcome, closed_loop, connected
from tests.benchmarks.load.http2 import Connection
from tests.benchmarks.testbed.noop import KEY
from tests.faults.installation import Client, Installation

SERVER_CORE, OTHER_CORE = 0, 1
_WARM_UP_SECONDS = 1.0


@dataclass(frozen=True)
class Target:
    """Something that answers AllocateUser. `processes` are those whose processor time is measured."""

    port: int
    key: str
    processes: tuple[psutil.Process, ...] = ()

    def processor_seconds(self) -> float:
        """User and system time so far, as /proc has it."""
        times = [process.cpu_times() for process in self.processes]
        return float(sum(each.user + each.system for each in times))

    @asynccontextmanager
    async def connected(self, count: int, path: str = messages.ALLOCATE_USER) -> AsyncIterator[list[Connection]]:
        metadata = [("authorization", f"Bearer {self.key}")]
        async with connected("127.0.0.1", self.port, path, metadata, count) as connections:
            yield connections


class Testbed:
    """An installation, everything of it on the core where it belongs."""

    def __init__(self, installation: Installation, endpoints: Endpoints) -> None:
        self.installation = installation
        self.client = Client(endpoints, installation.key)
        self.ours = served_by(installation, endpoints)
        self.redis = Redis.from_url(f"unix://{installation.path}/run/valkey.sock")

    async def close(self) -> None:
        """Close the connections to it."""
        await self.client.close()
        await self.redis.aclose()

    @contextmanager
    def quiet(self) -> Iterator[None]:
        """Without the worker."""
        worker = self.installation.recorded("worker")
        worker.suspend()
        try:
            yield
        finally:
            worker.resume()

    async def start(self, experiment_id: str, *segment_by: str, **segmentation: Any) -> None:
        """Create and start an experiment of three variants."""
        mode = experiment_pb2.SEGMENTATION_MODE_MANUAL if segment_by else experiment_pb2.SEGMENTATION_MODE_DISABLED
        segmentation = {"mode": mode} | segmentation
        message = experiment_pb2.Experiment(
            experiment_id=experiment_id,
            name=experiment_id,
            variants=[experiment_pb2.Variant(name=name) for name in ("Control", "A", "B")],
            segmentation=experiment_pb2.SegmentationConfig(segment_by=segment_by, **segmentation),
        )
        for variant in message.variants:
            variant.content["text"] = "Start now"
        call = {"metadata": self.client.metadata}
        await self.client.admin.CreateExperiment(admin.CreateExperimentRequest(experiment=message), **call)
        await self.client.admin.StartExperiment(admin.StartExperimentRequest(experiment_id=experiment_id), **call)

    async def start_clustered(self, experiment_id: str) -> None:
        """Create and start an experiment in mode AUTO, and train it on users with contexts."""
        await self.start(experiment_id, mode=experiment_pb2.SEGMENTATION_MODE_AUTO, min_samples_per_segment=0)
        async with self.ours.connected(4) as connections:
            user = new_users(experiment_id, context=True)
            checked(await closed_loop(connections, user, concurrency=32, most=2_000))
        await self.drained()
        await self.train(experiment_id)
        asked = segmentation_service_pb2.GetSegmentationConfigRequest(experiment_id=experiment_id)
        config = self.client.segmentation.GetSegmentationConfig
        while not (await config(asked, metadata=self.client.metadata)).segmentation.config.model_version:
            await asyncio.sleep(0.2)

    async def train(self, experiment_id: str) -> clustering_service_pb2.ClusteringJob:
        """Train clusters; the job once it succeeded."""
        service, call = self.client.clustering, {"metadata": self.client.metadata}
        request = clustering_service_pb2.TrainClusterModelRequest(experiment_id=experiment_id)
        job = (await service.TrainClusterModel(request, **call)).job
        asked = clustering_service_pb2.GetClusteringStatusRequest(experiment_id=experiment_id)
        while not job.HasField("finished_at"):
            await asyncio.sleep(0.1)
            job = (await service.GetClusteringStatus(asked, **call)).job
        if job.error:
            raise AssertionError(f"not trained: {job.error}")
        return job

    async def drained(self, shard_stream: str = "{s00}:events") -> None:
        """Wait until the worker has stored what the last round left."""
        while await self.redis.xlen(shard_stream):
            await asyncio.sleep(0.1)


@asynccontextmanager
async def testbed(installation: Installation, endpoints: Endpoints) -> AsyncIterator[Testbed]:
    """A running installation, and this process, each on its core."""
    with ExitStack() as stack:
        bed = Testbed(installation, endpoints)
        pin_installation(installation)
        before = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {OTHER_CORE})
        stack.callback(os.sched_setaffinity, 0, before)
        yield bed
        await bed.close()


async def closed(target: Target, message: Callable[[int], bytes], *, concurrency: int, seconds: float) -> Outcome:
    """A closed loop over as many connections as callers, four at most, whose calls must all succeed."""
    async with target.connected(min(4, concurrency)) as connections:
        return checked(await closed_loop(connections, message, concurrency=concurrency, seconds=seconds))


def checked(outcome: Outcome) -> Outcome:
    """The same, if every call succeeded."""
    if set(outcome.counts) != {0}:
        raise AssertionError(f"calls failed: {outcome.counts}")
    return outcome


def new_users(experiment_id: str, *, context: bool = False) -> Callable[[int], bytes]:
    """Users whom nobody has seen before."""
    return messages.users(experiment_id, secrets.token_hex(4), segmented=context)


def interval(ratios: "np.typing.ArrayLike") -> tuple[float, float, float]:
    """The median of rounds' ratios, and its 95 % interval by the bootstrap."""
    values = np.asarray(ratios, float)
    draws = np.random.default_rng(1).choice(values, (4_000, values.size))
    low, high = np.quantile(np.median(draws, axis=1), (0.025, 0.975))
    return float(np.median(values)), float(low), float(high)


def served_by(installation: Installation, endpoints: Endpoints, processes: int = 1) -> Target:
    """The data plane of an installation, as a target."""
    recorded = tuple(installation.recorded(f"server-{number}") for number in range(processes))
    return Target(int(endpoints.allocation.rpartition(":")[2]), installation.key, recorded)


def pin_installation(installation: Installation) -> None:
    """Server process 0 has the core of servers; everything else shares the other one."""
    pin(installation.recorded("server-0"), SERVER_CORE)
    for name in ("valkey", "postgres", "worker"):
        pin(installation.recorded(name), OTHER_CORE)


@asynccontextmanager
async def noop(*options: str) -> AsyncIterator[int]:
    """The port of a no-op on grpc.aio, on the core of servers."""
    async with grpc_aio_noop(*options) as target:
        yield target.port


def grpc_aio_noop(*options: str) -> AbstractAsyncContextManager[Target]:
    """A no-op on grpc.aio, on the core of servers."""
    return program(sys.executable, "-m", "tests.benchmarks.testbed.noop", *options)


@asynccontextmanager
async def program(*command: str, core: int = SERVER_CORE, **variables: str) -> AsyncIterator[Target]:
    """A program that prints "ready PORT" and ends on SIGTERM, on a core of its own."""
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env=os.environ | variables,
    )
    try:
        assert process.stdout is not None
        port = int((await process.stdout.readline()).split()[1])
        running = psutil.Process(process.pid)
        pin(running, core)
        yield Target(port, KEY, (running,))
    finally:
        process.terminate()
        await process.wait()


def pin(process: psutil.Process, core: int) -> None:
    """Every process and thread of it, there and to come."""
    for each in (process, *process.children(recursive=True)):
        each.cpu_affinity([core])
        for thread in each.threads():
            os.sched_setaffinity(thread.id, {core})
