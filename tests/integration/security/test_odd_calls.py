"""Methods of the other plane, odd paths, malformed messages, and other spellings of the key."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_reflection.v1alpha import reflection_pb2
from samplit.admin.v1 import (
    alert_service_pb2,
    audit_service_pb2,
    clustering_service_pb2,
    experiment_service_pb2,
    recommendation_service_pb2,
    segmentation_service_pb2,
)
from samplit.allocation.v1 import allocation_service_pb2 as pb

from tests.support.raw_calls import RawConnection, plain
from tests.support.service import Service
from tests.support.status import refused

INVALID_ARGUMENT, UNIMPLEMENTED = "3", "12"
ADMIN = (
    alert_service_pb2,
    audit_service_pb2,
    clustering_service_pb2,
    experiment_service_pb2,
    recommendation_service_pb2,
    segmentation_service_pb2,
)
ODD_PATHS = "foo", "*", "/", "//", "/foo", "/a/b/c", "/samplit.admin.v1.ExperimentService/", "/é/x"
MALFORMED = (
    b"\x0a\xff",  # a field that is cut off
    b"\xff" * 12,  # a number that never ends
    b"\x0b\x0a\x00",  # a group that never ends
    b"\x0a\x03\xff\xfe\xfd",  # a text, or a message, that is neither
)


def paths(*modules: Any) -> Iterator[str]:
    for module in modules:
        service: ServiceDescriptor
        for service in module.DESCRIPTOR.services_by_name.values():
            yield from (f"/{service.full_name}/{method.name}" for method in service.methods)


def bytes_of(message: bytes) -> bytes:
    return message


async def test_each_plane_answers_its_own_methods_alone(service: Service) -> None:
    """Also after a method was called on its own port, with a key that opens both."""
    application = service.application
    await service.call("ListExperiments")
    key = [("authorization", f"Bearer {service.key}")]
    for _ in range(2):
        for own, other, foreign in (
            (application.port, application.admin_port, list(paths(pb))),
            (application.admin_port, application.port, list(paths(*ADMIN))),
        ):
            here, there = await RawConnection.open(own), await RawConnection.open(other)
            for path in foreign:
                assert UNIMPLEMENTED not in await here.calls(path, plain(b"\xff"), 1, key)
                assert await there.calls(path, plain(b""), 1, key) == Counter({UNIMPLEMENTED: 1}), path
                assert await there.calls(path, plain(b""), 1) == Counter({UNIMPLEMENTED: 1}), path
            await here.close()
            await there.close()


async def test_odd_paths(service: Service) -> None:
    for port in (service.application.port, service.application.admin_port):
        connection = await RawConnection.open(port)
        for path in ODD_PATHS:
            assert await connection.calls(path, plain(b""), 1) == Counter({UNIMPLEMENTED: 1}), path
        await connection.close()


async def test_malformed_messages(service: Service) -> None:
    """Of every method of both planes, and of health."""
    addresses = {service.application.port: list(paths(pb)), service.application.admin_port: list(paths(*ADMIN))}
    for port, methods in addresses.items():
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            for path in (*methods, "/grpc.health.v1.Health/Check"):
                call = channel.unary_unary(path, bytes_of, bytes_of)
                for message in MALFORMED[:3]:
                    refusal = await refused(call(message, metadata=service.metadata))
                    said = refusal.code, refusal.reason
                    assert said == (grpc.StatusCode.INVALID_ARGUMENT, "MALFORMED_REQUEST"), (path, message)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{service.application.port}") as channel:
        allocate = channel.unary_unary(next(paths(pb)), bytes_of, bytes_of)
        refusal = await refused(allocate(MALFORMED[3], metadata=service.metadata))
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "MALFORMED_REQUEST")


async def test_the_scheme_in_any_case(service: Service) -> None:
    for scheme in ("Bearer", "bearer", "BEARER", "bEaReR"):
        metadata = [("authorization", f"{scheme} {service.key}")]
        await service.admin.ListExperiments(experiment_service_pb2.ListExperimentsRequest(), metadata=metadata)
        refusal = await refused(service.allocation.AllocateUser(pb.AllocateUserRequest(), metadata=metadata))
        assert refusal.reason == "INVALID_FIELD"


async def test_keys_without_their_scheme(service: Service) -> None:
    for value in ("{}", "Basic {}", "Bearer", "Bearer{}", "Token {}"):
        metadata = [("authorization", value.format(service.key))]
        for call in (
            service.admin.ListExperiments(experiment_service_pb2.ListExperimentsRequest(), metadata=metadata),
            service.allocation.AllocateUser(pb.AllocateUserRequest(), metadata=metadata),
        ):
            refusal = await refused(call)
            assert (refusal.code, refusal.reason) == (grpc.StatusCode.UNAUTHENTICATED, "KEY_MISSING"), value


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
@pytest.mark.parametrize("plane", ["port", "admin_port"])
async def test_reflection_of_both_versions(service: Service, plane: str, version: str) -> None:
    request = reflection_pb2.ServerReflectionRequest
    async with grpc.aio.insecure_channel(f"127.0.0.1:{getattr(service.application, plane)}") as channel:
        ask = channel.stream_stream(
            f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
            request.SerializeToString,
            reflection_pb2.ServerReflectionResponse.FromString,
        )
        asked = request(list_services=""), request(file_containing_symbol="samplit.errors.v1.ErrorReason")
        listed, found = [answer async for answer in ask(iter(asked))]
    names = {each.name for each in listed.list_services_response.service}
    assert f"grpc.reflection.{version}.ServerReflection" in names
    assert "grpc.health.v1.Health" in names
    pool = DescriptorPool()
    for file in reversed(found.file_descriptor_response.file_descriptor_proto):
        pool.Add(FileDescriptorProto.FromString(file))
    assert "ERROR_REASON_KEY_MISSING" in pool.FindEnumTypeByName("samplit.errors.v1.ErrorReason").values_by_name
