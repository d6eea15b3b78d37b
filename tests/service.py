"""A whole server in the test's event loop, over a real gRPC channel, with a worker beside it."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import grpc
import pytest
from samplit.admin.v1 import (
    clustering_service_pb2,
    experiment_pb2,
    experiment_service_pb2,
    segmentation_service_pb2,
)
from samplit.admin.v1.clustering_service_pb2_grpc import ClusteringServiceStub
from samplit.admin.v1.experiment_service_pb2_grpc import ExperimentServiceStub
from samplit.admin.v1.segmentation_service_pb2_grpc import SegmentationServiceStub
from samplit.allocation.v1 import allocation_service_pb2
from samplit.allocation.v1.allocation_service_pb2_grpc import AllocationServiceStub

from server.runtime.application import Application
from server.runtime.bootstrap import prepare_stores
from server.settings import Settings
from server.worker.worker import run_worker
from storage.encryption import load_secrets
from storage.postgres.labels import Labeller

_STOP_SECONDS = 20


@dataclass
class Service:
    """Stubs that carry the key, and the pieces behind them."""

    application: Application
    allocation: Any
    admin: Any
    segmentation: Any
    clustering: Any
    settings: Settings
    key: str

    @property
    def metadata(self) -> list[tuple[str, str]]:
        return [("authorization", f"Bearer {self.key}")]

    async def allocate(self, experiment_id: str, user: str, **fields: Any) -> Any:
        request = allocation_service_pb2.AllocateUserRequest(
            experiment_id=experiment_id, user_identifier=user, **fields
        )
        return await self.allocation.AllocateUser(request, metadata=self.metadata)

    async def convert(self, **fields: Any) -> Any:
        request = allocation_service_pb2.RecordConversionRequest(**fields)
        return await self.allocation.RecordConversion(request, metadata=self.metadata)

    async def call(self, method: str, **fields: Any) -> Any:
        """An admin call by its name."""
        services = (
            (self.admin, experiment_service_pb2),
            (self.segmentation, segmentation_service_pb2),
            (self.clustering, clustering_service_pb2),
        )
        stub, messages = next((stub, messages) for stub, messages in services if hasattr(stub, method))
        request = getattr(messages, f"{method}Request")(**fields)
        return await getattr(stub, method)(request, metadata=self.metadata)

    async def running(self, **fields: Any) -> Any:
        """A started experiment with the variants control, a and b."""
        message = experiment(**fields)
        created = (await self.call("CreateExperiment", experiment=message)).experiment
        return (await self.call("StartExperiment", experiment_id=created.experiment_id)).experiment

    async def learned(self, experiment_id: str, allocations: int, conversions: int = 0) -> Any:
        """Results once they show that many, published and served; fails after some seconds."""
        async with asyncio.timeout(30):
            while True:
                results = await self.call("GetExperimentResults", experiment_id=experiment_id)
                counted = sum(v.allocations for v in results.totals), sum(v.conversions for v in results.totals)
                if counted == (allocations, conversions) and results.posterior_version > 0:
                    return results
                await asyncio.sleep(0.02)


def experiment(**fields: Any) -> experiment_pb2.Experiment:
    """A valid experiment, changed by `fields`."""
    variants = [experiment_pb2.Variant(variant_id=name, name=name.title()) for name in ("control", "a", "b")]
    for variant in variants:
        variant.content["text"] = f"text of {variant.variant_id}"
    return experiment_pb2.Experiment(**{"experiment_id": "cta", "name": "CTA", "variants": variants, **fields})


@pytest.fixture
async def service(settings: Settings, clock: Any) -> AsyncIterator[Service]:
    """A server without a worker."""
    await prepare_stores(settings, clock)
    application = await Application.start(settings, clock)
    async with (
        grpc.aio.insecure_channel(f"127.0.0.1:{application.port}") as allocation,
        grpc.aio.insecure_channel(f"127.0.0.1:{application.admin_port}") as admin,
    ):
        key = settings.api_key_file.read_text()
        of_admin = (ExperimentServiceStub, SegmentationServiceStub, ClusteringServiceStub)
        stubs = AllocationServiceStub(allocation), *(stub(admin) for stub in of_admin)
        yield Service(application, *stubs, settings, key)
    async with asyncio.timeout(_STOP_SECONDS):
        await application.stop(grace=1)


@pytest.fixture
def labeller(service: Service) -> Labeller:
    """What the service's workers label with."""
    return Labeller(load_secrets(service.settings.secrets_directory))


@pytest.fixture
async def worker(service: Service, clock: Any) -> AsyncIterator[None]:
    """A worker beside the server."""
    ready = asyncio.Event()
    task = asyncio.create_task(run_worker(service.settings, clock, ready))
    started = asyncio.create_task(ready.wait())
    await asyncio.wait({task, started}, return_when=asyncio.FIRST_COMPLETED)
    if task.done():
        task.result()
    yield
    task.cancel()
    done, _ = await asyncio.wait({task}, timeout=_STOP_SECONDS)
    assert done, f"the worker does not stop: {asyncio.all_tasks()}"
