"""Health and reflection on the transport, as gRPC's own clients see them."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from samplit.allocation.v1 import allocation_service_pb2

from server.api.wire_services.health import Health
from server.api.wire_services.reflection import Reflection
from tests.integration.transport.support import Served, serving

_SERVICE = allocation_service_pb2.DESCRIPTOR.services_by_name["AllocationService"].full_name
_Response = health_pb2.HealthCheckResponse


@pytest.fixture
def health() -> Health:
    return Health()


@pytest.fixture
async def served(health: Health) -> AsyncIterator[Served]:
    reflection = Reflection([_SERVICE, "grpc.health.v1.Health"])
    async with serving(methods={**health.methods(), **reflection.methods()}) as one:
        yield one


async def test_check(health: Health, served: Served):
    async with grpc.aio.insecure_channel(served.address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        assert (await stub.Check(health_pb2.HealthCheckRequest())).status == _Response.SERVING
        health.set("one", serves=False)
        assert (await stub.Check(health_pb2.HealthCheckRequest(service="one"))).status == _Response.NOT_SERVING
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.Check(health_pb2.HealthCheckRequest(service="other"))
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND


async def test_watch(health: Health, served: Served):
    async with grpc.aio.insecure_channel(served.address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        call = stub.Watch(health_pb2.HealthCheckRequest(service="one"))
        assert (await call.read()).status == _Response.SERVICE_UNKNOWN
        for serves, status in ((True, _Response.SERVING), (False, _Response.NOT_SERVING)):
            health.set("one", serves=serves)
            assert (await call.read()).status == status
        health.set("one", serves=True)
        assert (await call.read()).status == _Response.SERVING
        health.leave()
        health.set("one", serves=True)
        assert (await call.read()).status == _Response.NOT_SERVING
        assert served.server.waiting == 0


async def test_a_watch_does_not_hold_up_a_drain(served: Served):
    async with grpc.aio.insecure_channel(served.address) as channel:
        call = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        await call.read()
        async with asyncio.timeout(5):
            await served.server.drain(60)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call.read()
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_reflection(served: Served):
    def look() -> None:
        with grpc.insecure_channel(served.address) as channel:
            database = ProtoReflectionDescriptorDatabase(channel)
            assert _SERVICE in database.get_services()
            found = database.FindFileContainingSymbol(_SERVICE)
            assert found.name == allocation_service_pb2.DESCRIPTOR.name
            with pytest.raises(KeyError):
                database.FindFileContainingSymbol("no.such.Name")

    await asyncio.to_thread(look)


async def test_grpcurl_describes_the_service(served: Served):
    run = [str(Path(sys.executable).with_name("grpcurl")), "-plaintext", served.address]
    listed = await asyncio.to_thread(subprocess.run, [*run, "list"], capture_output=True, text=True)
    assert _SERVICE in listed.stdout.split()
    described = await asyncio.to_thread(subprocess.run, [*run, "describe", _SERVICE], capture_output=True, text=True)
    assert "rpc AllocateUser " in described.stdout
