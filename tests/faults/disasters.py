"""Disks and files come to harm under load; afterwards every answer is compared with the log."""

import asyncio
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from samplit.allocation.v1 import allocation_service_pb2 as pb

from server.api.health import POSTGRES, REDIS
from tests.faults.installation import Client, Installation
from tests.faults.kill_test import EXPERIMENT, Verdict, Witness, judge, recovered, start_experiment, visitors
from tests.support.disk import fill
from tests.support.waiting import eventually

_VISIT_SECONDS = 2.0
_FULL_SECONDS = 4.0
_ASKED_AGAIN = 100
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
_SERVING = health_pb2.HealthCheckResponse.SERVING


@dataclass(frozen=True)
class FullDisk:
    """How a full disk was survived, beside the verdict on the answers."""

    verdict: Verdict
    known: int  # users who were asked again while the disk was full
    forgotten: int  # of these, who did not get their variant
    said: int  # lines about the full disk


async def undergo_full_disk(installation: Installation, disk: Path) -> FullDisk:
    """Fill the disk of the data directory under load, ask known users again, and make room."""
    endpoints = await installation.start()
    client = Client(endpoints, installation.key)
    await start_experiment(client)
    witness = Witness()
    async with visitors(endpoints, client.metadata, witness):
        await asyncio.sleep(_VISIT_SECONDS)
        known = list(witness.variants)[:_ASKED_AGAIN]
        filler = fill(disk)
        await eventually(lambda: "disk full: " in installation.output)
        for service in (REDIS, POSTGRES):
            await eventually(lambda name=service: _has_health(endpoints.allocation, name, _NOT_SERVING))  # type: ignore[misc]
        await asyncio.sleep(_FULL_SECONDS)
        forgotten = [user for user in known if not await _keeps(client, user, witness)]
        filler.unlink()
        await recovered(installation, client, "probe", {})
        for service in (REDIS, POSTGRES):
            await eventually(lambda name=service: _has_health(endpoints.allocation, name, _SERVING))  # type: ignore[misc]
        await asyncio.sleep(_VISIT_SECONDS)
    verdict = await judge(installation, client, witness, 0)
    await client.close()
    assert installation.process is not None
    assert installation.process.returncode is None
    return FullDisk(verdict, len(known), len(forgotten), installation.output.count("disk full: "))


async def undergo_damaged_file(installation: Installation) -> Verdict:
    """Damage the append-only file while events wait in it: bytes overwritten in the middle, and garbage at the end."""
    client, witness = await _visited(installation)
    worker = installation.recorded("worker")
    worker.suspend()
    async with visitors(installation.endpoints, client.metadata, witness):
        await asyncio.sleep(_VISIT_SECONDS)
    await client.close()
    await installation.kill_everything()
    for path in (installation.path / "valkey" / "appendonlydir").glob("*.incr.aof"):
        content = bytearray(path.read_bytes())
        position = content.find(b"\r\n$", len(content) // 4)  # of what was drained
        content[position : position + 8] = b"\0" * 8
        path.write_bytes(bytes(content) + b"\0garbage\r\n*3\r\n$")
    return await _judged_after_restart(installation, witness)


async def undergo_older_copy(installation: Installation) -> Verdict:
    """Put a copy of Valkey's files in place that was made before most users came, as a restore would."""
    client, witness = await _visited(installation)
    await client.close()
    await installation.stop()
    files, copy = installation.path / "valkey", installation.path.with_name("copy")
    shutil.copytree(files, copy)
    client = Client(await installation.start(), installation.key)
    await recovered(installation, client, "probe-1", {})
    async with visitors(installation.endpoints, client.metadata, witness):
        await asyncio.sleep(_VISIT_SECONDS)
    await judge(installation, client, witness, 0)  # once everything is drained
    await client.close()
    await installation.stop()
    owner = files.stat()
    shutil.rmtree(files)
    shutil.copytree(copy, files)
    for path in (files, *files.rglob("*")):
        shutil.chown(path, owner.st_uid, owner.st_gid)
    return await _judged_after_restart(installation, witness)


async def _visited(installation: Installation) -> tuple[Client, Witness]:
    client = Client(await installation.start(), installation.key)
    await start_experiment(client)
    witness = Witness()
    async with visitors(installation.endpoints, client.metadata, witness):
        await asyncio.sleep(_VISIT_SECONDS)
    return client, witness


async def _judged_after_restart(installation: Installation, witness: Witness) -> Verdict:
    """Start again, let known users and new ones come at once, and judge."""
    client = Client(await installation.start(), installation.key)
    async with visitors(installation.endpoints, client.metadata, witness):
        await asyncio.sleep(_VISIT_SECONDS)
        await recovered(installation, client, "probe-2", {})
    verdict = await judge(installation, client, witness, 0)
    await client.close()
    return verdict


async def _keeps(client: Client, user: str, witness: Witness) -> bool:
    request = pb.AllocateUserRequest(experiment_id=EXPERIMENT, user_identifier=user)
    try:
        answer = await client.allocation.AllocateUser(request, metadata=client.metadata, timeout=5)
    except grpc.aio.AioRpcError:
        return False
    return (answer.assignment_id, answer.variant_id) == witness.variants[user]


async def _has_health(address: str, service: str, status: Any) -> bool:
    async with grpc.aio.insecure_channel(address) as channel:
        try:
            answer = await health_pb2_grpc.HealthStub(channel).Check(
                health_pb2.HealthCheckRequest(service=service), timeout=5
            )
        except grpc.aio.AioRpcError:
            return False
    return bool(answer.status == status)
