"""What clients on grpc-go, grpc-java and grpc-js get from the transport, and from Samplit.

The cases are those by which gRPC tests its own libraries against each other, and those of a connection's life.
Clients have no service config unless a case says so. Every library then repeats only calls that no server has seen:
grpc-js, for one, opens streams on a connection whose GOAWAY it has received but not acted on, and refuses them itself.
Run by `make test-clients`.
"""

import asyncio
import json
import re
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from samplit.admin.v1 import experiment_service_pb2 as pb

from server.transport import Options, server_context
from tests.faults.installation import Client as Stubs
from tests.faults.installation import Installation
from tests.interop.clients import Client
from tests.interop.service import DESCRIPTORS, serving
from tests.support.certificates import make_authority, make_signed
from tests.support.service import experiment
from tests.support.waiting import eventually

pytestmark = pytest.mark.clients

_SAMPLIT_DESCRIPTORS = Path("build/protos.binpb").absolute()
_PAGE = Path("docs/how-to/operation/connect-clients.md")
_CASES = (
    "empty_unary",
    "large_unary",
    "server_streaming",
    "ping_pong",
    "empty_stream",
    "status",
    "metadata",
    "compressed",
    "unimplemented_method",
    "unimplemented_service",
)
_IDLE_SECONDS = 22  # enough for two PINGs, which no client may send more often than every 10 seconds
_FEWEST_CALLS = 500  # of what is steady: far fewer than a busy machine makes


@pytest.mark.parametrize("case", _CASES)
async def test_a_case(client: Client, case: str):
    async with serving() as served:
        await client.run(case, served.target, descriptors=DESCRIPTORS)
        assert served.compressed == (case == "compressed")
        assert served.server.statistics.connections == 1
        assert served.server.statistics.faults == 0


@pytest.mark.parametrize(("case", "least"), [("deadline", 1), ("cancel_before", 0), ("cancel_after", 0)])
async def test_calls_that_end_early_leave_no_handler(client: Client, case: str, least: int):
    """A call that is cancelled at once may never come to the server, and grpc-js ends a stream before it cancels it."""
    async with serving() as served:
        await client.run(case, served.target, descriptors=DESCRIPTORS)
        await eventually(lambda: not served.running and not served.server.waiting)
        assert served.cancelled >= least
        assert served.server.statistics.faults == 0


@pytest.mark.parametrize("case", ["large_unary", "ping_pong", "status"])
async def test_over_a_unix_socket(client: Client, case: str, folder: Path):
    async with serving(address=f"unix:{folder / 'socket'}") as served:
        await client.run(case, served.target, descriptors=DESCRIPTORS)


@pytest.mark.parametrize("case", ["large_unary", "ping_pong", "status"])
async def test_over_tls(client: Client, case: str, tmp_path: Path):
    authority = make_authority(tmp_path)
    own = make_signed(tmp_path, authority, "DNS:localhost")
    async with serving(Options(tls=server_context(own.certificate, own.key))) as served:
        await client.run(case, served.target, descriptors=DESCRIPTORS, ca=str(authority.certificate))


async def test_connections_that_end_for_their_age_fail_no_call(client: Client):
    options = Options(connection_age=1.0, age_grace=5.0, sweep_seconds=0.1)
    async with serving(options) as served:
        calls, failures = await client.steady("steady", served.target, descriptors=DESCRIPTORS, seconds="20")
        assert failures == {}
        assert calls > _FEWEST_CALLS
        assert served.server.statistics.connections >= 10


async def test_a_server_that_drains_beside_another_fails_no_call(client: Client):
    """Each of four servers on one port takes over from the one before."""
    async with AsyncExitStack() as stack:
        servers = [await stack.enter_async_context(serving(reuse_port=True))]
        target = servers[0].target
        calling = asyncio.create_task(client.steady("steady", target, descriptors=DESCRIPTORS, seconds="8"))
        await eventually(lambda: servers[0].server.statistics.connections > 0)
        for _ in range(3):
            await asyncio.sleep(1)
            servers.append(await stack.enter_async_context(serving(address=target, reuse_port=True)))
            await servers[-2].server.drain(5)
        calls, failures = await calling
        assert failures == {}
        assert calls > _FEWEST_CALLS
        assert all(served.server.statistics.connections for served in servers)


async def test_keepalive_with_and_without_calls(client: Client):
    async with serving(Options(keepalive_seconds=15.0)) as served:
        await client.run(
            "keepalive", served.target, descriptors=DESCRIPTORS, seconds=f"{_IDLE_SECONDS}", keepalive=True
        )
        assert served.server.statistics.connections == 1
        assert served.server.statistics.faults == 0


@pytest.mark.parametrize("retries", [True, False], ids=["retries", "no-retries"])
async def test_samplit_is_replaced_under_its_callers(client: Client, folder: Path, retries: bool):
    """Users are allocated and convert while every process is replaced. Clients repeat calls as the docs say, or not."""
    installation = Installation(folder / "data", SAMPLIT_CONNECTION_AGE="1")
    endpoints = await installation.start()
    stubs = Stubs(endpoints, installation.key)
    await stubs.admin.CreateExperiment(pb.CreateExperimentRequest(experiment=experiment()), metadata=stubs.metadata)
    await stubs.admin.StartExperiment(pb.StartExperimentRequest(experiment_id="cta"), metadata=stubs.metadata)
    await stubs.close()
    before = [installation.recorded_pid(name) for name in ("server-0", "worker")]
    options = {"key": installation.key, "seconds": "20"}
    if retries:
        options["service_config"] = str(_write_service_config(folder))
    calling = asyncio.create_task(
        client.steady("samplit", endpoints.allocation, descriptors=_SAMPLIT_DESCRIPTORS, **options)
    )
    await asyncio.sleep(3)
    installation.replace()
    calls, failures = await calling
    replaced = [installation.recorded_pid(name) for name in ("server-0", "worker")]
    await installation.stop()
    assert failures == {}
    assert calls > _FEWEST_CALLS
    assert not set(before) & set(replaced)


def _write_service_config(folder: Path) -> Path:
    """Write the service config that the documentation shows."""
    found = re.search(r"```json\n(.*?)```", _PAGE.read_text(), re.DOTALL)
    assert found is not None
    path = folder / "service_config.json"
    path.write_text(json.dumps(json.loads(found[1])))
    return path
