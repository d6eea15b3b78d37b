"""A call is refused by its metadata: what it brings is neither parsed nor kept."""

import asyncio
import gc
import time
from collections import Counter

import grpc
import psutil
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from samplit.allocation.v1 import allocation_service_pb2 as pb

from server.transport import StatusError
from tests.support.raw_calls import RawConnection, compressed, plain
from tests.support.service import Service, experiment
from tests.support.status import refused

ALLOCATE_USERS = "/samplit.allocation.v1.AllocationService/AllocateUsers"
CREATE_EXPERIMENT = "/samplit.admin.v1.ExperimentService/CreateExperiment"
ITEMS = b"\x0a\x00" * 2_000_000
CALLS, MOST_MEBIBYTES, MOST_SECONDS = 10_000, 50, 0.2
GZIP = ("grpc-encoding", "gzip")
UNAUTHENTICATED, INVALID_ARGUMENT, RESOURCE_EXHAUSTED = "16", "3", "8"


@pytest.mark.parametrize(("plane", "path"), [("port", ALLOCATE_USERS), ("admin_port", CREATE_EXPERIMENT)])
@pytest.mark.parametrize("headers", [(), (("authorization", "Bearer samplit_0_0"),)], ids=["no key", "wrong key"])
async def test_calls_without_a_key_cost_no_memory_and_no_time(
    service: Service, plane: str, path: str, headers: tuple[tuple[str, str], ...]
) -> None:
    port = getattr(service.application, plane)
    body = compressed(ITEMS)
    thresholds = gc.get_threshold()
    gc.set_threshold(20_000, 20, 20)  # as servers set it
    connection = await RawConnection.open(port)
    try:
        await connection.calls(path, body, 200, (GZIP, *headers))
        before = _mebibytes()
        checks = asyncio.create_task(_slowest_check(port))
        ended = await connection.calls(path, body, CALLS, (GZIP, *headers))
        grown = _mebibytes() - before
        checks.cancel()
        slowest = await checks
    finally:
        gc.set_threshold(*thresholds)
        await connection.close()
    assert ended == Counter({UNAUTHENTICATED: CALLS})
    assert grown < MOST_MEBIBYTES
    assert slowest < MOST_SECONDS


async def test_batches_are_counted_before_their_items_are_built(service: Service) -> None:
    """With a key, too: the memory of one such call would be 200 MB."""
    connection = await RawConnection.open(service.application.port)
    key = ("authorization", f"Bearer {service.key}")
    before = _mebibytes()
    ended = await connection.calls(ALLOCATE_USERS, compressed(ITEMS), 20, (GZIP, key), at_once=2)
    await connection.close()
    assert ended == Counter({INVALID_ARGUMENT: 20})
    assert _mebibytes() - before < MOST_MEBIBYTES


@pytest.mark.parametrize(("plane", "path"), [("port", ALLOCATE_USERS), ("admin_port", CREATE_EXPERIMENT)])
async def test_inflated_messages_have_the_same_limit(service: Service, plane: str, path: str) -> None:
    connection = await RawConnection.open(getattr(service.application, plane))
    key = ("authorization", f"Bearer {service.key}")
    before = _mebibytes()
    ended = await connection.calls(path, compressed(bytes(100_000_000)), 3, (GZIP, key), at_once=1)
    await connection.close()
    assert ended == Counter({RESOURCE_EXHAUSTED: 3})
    assert _mebibytes() - before < MOST_MEBIBYTES


async def test_failed_calls_leave_no_cycle(service: Service) -> None:
    """Nothing of them waits for the garbage collector, which comes rarely."""
    ports = {service.application.port: ALLOCATE_USERS, service.application.admin_port: CREATE_EXPERIMENT}
    others = ("/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch")
    key = ("authorization", f"Bearer {service.key}")
    gc.collect()
    gc.disable()
    try:
        for port, path in ports.items():
            connection = await RawConnection.open(port)
            for headers in ((), (key,)):
                await connection.calls(path, plain(b"\x0a\xff"), 300, headers)
            for other in others:
                await connection.calls(other, plain(b"\x0a\xff"), 100)
            await connection.close()
        kept = Counter(
            type(each).__name__
            for each in gc.get_objects()
            if isinstance(each, grpc.aio.AbortError | StatusError | grpc.aio.ServicerContext)
        )
    finally:
        gc.enable()
    assert sum(kept.values()) < 10, kept


async def test_the_largest_batch_that_the_protos_allow(service: Service) -> None:
    await service.running()
    attributes = {f"a{n}": "x" * 256 for n in range(32)}
    requests = [
        pb.AllocateUserRequest(experiment_id="cta", user_identifier=f"u{n}", attributes=attributes)
        for n in range(1_000)
    ]
    request = pb.AllocateUsersRequest(requests=requests)
    assert request.ByteSize() > 8_000_000
    answer = await service.allocation.AllocateUsers(request, metadata=service.metadata)
    assert {item.status.code for item in answer.items} == {0}
    request.requests[0].web.user_agent = "x" * (16 * 1024 * 1024)
    refusal = await refused(service.allocation.AllocateUsers(request, metadata=service.metadata))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "REQUEST_TOO_LARGE")
    single = pb.AllocateUserRequest(experiment_id="cta", user_identifier="x" * 5_000_000)
    refusal = await refused(service.allocation.AllocateUser(single, metadata=service.metadata))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "REQUEST_TOO_LARGE")
    message = experiment(description="x" * (17 * 1024 * 1024))
    refusal = await refused(service.call("CreateExperiment", experiment=message))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "REQUEST_TOO_LARGE")


async def _slowest_check(port: int) -> float:
    """Ask the health service until cancelled, and return how long its slowest answer took."""
    slowest = 0.0
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        check = health_pb2_grpc.HealthStub(channel).Check
        await check(health_pb2.HealthCheckRequest())
        try:
            while True:
                begin = time.perf_counter()
                await check(health_pb2.HealthCheckRequest())
                slowest = max(slowest, time.perf_counter() - begin)
                await asyncio.sleep(0.02)
        except asyncio.CancelledError:
            return slowest


def _mebibytes() -> float:
    return float(psutil.Process().memory_info().rss) / 2**20
