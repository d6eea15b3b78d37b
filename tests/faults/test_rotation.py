"""Keys of an installation that serves are replaced: calls with the old and the new key, and commands, go on."""

import asyncio
from pathlib import Path

import grpc
import pytest
from samplit.admin.v1 import experiment_service_pb2 as pb

from tests.faults.installation import Client, Installation, cli
from tests.support.waiting import eventually


async def test_the_first_key_is_replaced_and_commands_use_the_new_one(folder: Path) -> None:
    installation = Installation(folder)
    endpoints = await installation.start()
    here = ("--data-dir", str(folder))
    old = installation.key
    old_id = old.split("_")[1]
    done = await asyncio.to_thread(cli, "keys", "rotate", old_id, "--grace", "3s", *here)
    assert done.returncode == 0, done.stderr
    new = done.stdout.strip()
    assert installation.key == new != old
    again = await asyncio.to_thread(cli, "keys", "rotate", old_id, *here)
    assert again.returncode == 1
    assert "was replaced already" in again.stderr
    listed = await asyncio.to_thread(cli, "experiments", "list", *here)
    assert listed.returncode == 0, listed.stderr
    audited = await asyncio.to_thread(cli, "audit", *here)
    assert "key.rotated" in audited.stdout

    client = Client(endpoints, old)
    await eventually(lambda: _is_refused(client))
    await client.close()
    client = Client(endpoints, new)
    assert not await _is_refused(client)
    await client.close()
    await installation.stop()
    await installation.start()
    assert installation.key == new
    assert (await asyncio.to_thread(cli, "experiments", "list", *here)).returncode == 0
    await installation.stop()


@pytest.mark.parametrize("expiry", ["0", "soon", "-1d"])
def test_a_life_that_makes_no_sense_is_refused(expiry: str) -> None:
    done = cli("keys", "create", "x", f"--expires-in={expiry}")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr


async def _is_refused(client: Client) -> bool:
    try:
        await client.admin.ListExperiments(pb.ListExperimentsRequest(), metadata=client.metadata)
    except grpc.aio.AioRpcError as error:
        return error.code() is grpc.StatusCode.UNAUTHENTICATED
    return False
