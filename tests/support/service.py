"""A whole server in the test's event loop, called over a real channel, with a worker beside it."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from samplit.admin.v1 import (
    alert_service_pb2,
    audit_service_pb2,
    clustering_service_pb2,
    experiment_pb2,
    experiment_service_pb2,
    recommendation_service_pb2,
    segmentation_service_pb2,
)
from samplit.admin.v1.alert_service_pb2_grpc import AlertServiceStub
from samplit.admin.v1.audit_service_pb2_grpc import AuditServiceStub
from samplit.admin.v1.clustering_service_pb2_grpc import ClusteringServiceStub
from samplit.admin.v1.experiment_service_pb2_grpc import ExperimentServiceStub
from samplit.admin.v1.recommendation_service_pb2_grpc import RecommendationServiceStub
from samplit.admin.v1.segmentation_service_pb2_grpc import SegmentationServiceStub
from samplit.allocation.v1 import allocation_service_pb2
from samplit.allocation.v1.allocation_service_pb2_grpc import AllocationServiceStub

from server.runtime.bootstrap import prepare_stores
from server.runtime.composition import Application
from server.runtime.worker import run_worker
from server.settings import Settings
from storage.encryption import Secrets, load_secrets
from storage.postgres.events.labels import Labeller
from tests.support.waiting import PATIENCE_SECONDS

_ADMIN = (
    (ExperimentServiceStub, experiment_service_pb2),
    (SegmentationServiceStub, segmentation_service_pb2),
    (ClusteringServiceStub, clustering_service_pb2),
    (RecommendationServiceStub, recommendation_service_pb2),
    (AlertServiceStub, alert_service_pb2),
    (AuditServiceStub, audit_service_pb2),
)


@dataclass
class Service:
    """A running server: stubs with its API key, the application, and its settings."""

    application: Application
    allocation: Any
    services: list[tuple[Any, Any]]
    settings: Settings
    key: str

    @property
    def admin(self) -> Any:
        """Return the stub of ExperimentService."""
        return self.services[0][0]

    @property
    def secrets(self) -> Secrets:
        return load_secrets(self.settings.secrets_directory)

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
        """Make an admin call by its name."""
        stub, messages = next((stub, messages) for stub, messages in self.services if hasattr(stub, method))
        request = getattr(messages, f"{method}Request")(**fields)
        return await getattr(stub, method)(request, metadata=self.metadata)

    async def running(self, **fields: Any) -> Any:
        """Create and start an experiment with the variants control, a and b."""
        message = experiment(**fields)
        created = (await self.call("CreateExperiment", experiment=message)).experiment
        return (await self.call("StartExperiment", experiment_id=created.experiment_id)).experiment

    async def learned(self, experiment_id: str, allocations: int, conversions: int = 0) -> Any:
        """Wait until the results have these counts and a posterior is published. Return the results."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                results = await self.call("GetExperimentResults", experiment_id=experiment_id)
                counted = sum(v.allocations for v in results.totals), sum(v.conversions for v in results.totals)
                if counted == (allocations, conversions) and results.posterior_version > 0:
                    return results
                await asyncio.sleep(0.02)


def stubs(allocation: grpc.aio.Channel, admin: grpc.aio.Channel) -> tuple[Any, list[tuple[Any, Any]]]:
    """Return the stub of the data plane, and each stub of the control plane with the module of its messages."""
    return AllocationServiceStub(allocation), [(stub(admin), messages) for stub, messages in _ADMIN]


def experiment(**fields: Any) -> experiment_pb2.Experiment:
    """Return a valid experiment, changed by `fields`."""
    variants = [experiment_pb2.Variant(variant_id=name, name=name.title()) for name in ("control", "a", "b")]
    for variant in variants:
        variant.content["text"] = f"text of {variant.variant_id}"
    return experiment_pb2.Experiment(**{"experiment_id": "cta", "name": "CTA", "variants": variants, **fields})


def stamp(at: datetime) -> Timestamp:
    """Return a moment as the API takes it."""
    message = Timestamp()
    message.FromDatetime(at)
    return message


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
        yield Service(application, *stubs(allocation, admin), settings, key)
    async with asyncio.timeout(PATIENCE_SECONDS):
        await application.stop(grace=1)


@pytest.fixture
def labeller(service: Service) -> Labeller:
    """The labeller that the service's workers use."""
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
    done, _ = await asyncio.wait({task}, timeout=PATIENCE_SECONDS)
    assert done, f"the worker does not stop: {asyncio.all_tasks()}"
