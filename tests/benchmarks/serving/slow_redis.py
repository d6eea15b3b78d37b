"""Redis is late, silent, half-closed or gone, behind a proxy: when calls end, and how soon the server recovers."""

import asyncio
import secrets
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import grpc
import numpy as np
from samplit.admin.v1 import experiment_service_pb2 as admin
from samplit.allocation.v1 import allocation_service_pb2 as pb

from storage.engines.directory import DataDirectory
from storage.engines.embedded import EmbeddedEngines
from tests.benchmarks.load.generator import Outcome, open_loop
from tests.benchmarks.row import Row
from tests.benchmarks.testbed.noop import KEY
from tests.benchmarks.testbed.testbed import Target, new_users, noop
from tests.faults.installation import Client, Installation
from tests.support.proxy import Proxy
from tests.support.service import experiment

_ROUNDS, _RATE, _SECONDS = 5, 200, 2.0
_DEADLINE, _PATIENCE = 0.2, 10.0
_REDIS_TIMEOUT = 1.0  # the default of SAMPLIT_REDIS_TIMEOUT
_SLACK_GOAL, _PATIENT_GOAL, _RECOVERY_GOAL = 2.0, 2.0, 3.0  # times the slack of the no-op; times the timeout; seconds
_LATE = 5.0
_SETTLED = 20  # new users recorded in a row


async def _be_late(proxy: Proxy) -> None:
    proxy.delay = _LATE


async def _be_silent(proxy: Proxy) -> None:
    proxy.is_silent = True


async def _half_close(proxy: Proxy) -> None:
    proxy.half_close()


_TROUBLES: dict[str, Callable[[Proxy], Awaitable[None]]] = {
    f"{_LATE:g} s late": _be_late,
    "silent": _be_silent,
    "half-closed": _half_close,
    "gone": Proxy.go_away,
}


def rows() -> list[Row]:
    """Measure for each trouble how late calls with a short deadline end, how long others take, and recovery."""
    folder = Path(tempfile.mkdtemp(prefix="smp"))
    folder.chmod(0o711)
    try:
        return asyncio.run(_measure(folder))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def _measure(folder: Path) -> list[Row]:
    found: list[Row] = []
    async with AsyncExitStack() as stack:
        client, ours, proxy = await stack.enter_async_context(_behind_a_proxy(folder))
        sleeper = Target(await stack.enter_async_context(noop("--sleep", "60")), KEY)
        for name, trouble in _TROUBLES.items():
            slack, patient, recovery = [], [], []
            for _ in range(_ROUNDS):
                reference = _slack(await _load(sleeper, _DEADLINE))
                await trouble(proxy)
                slack.append(_slack(await _load(ours, _DEADLINE)) / reference)
                await _heal(proxy, client)
                await trouble(proxy)
                outcome = await _load(ours, _PATIENCE)
                patient.append(outcome.quantile(1.0) / _REDIS_TIMEOUT)
                recovery.append(await _heal(proxy, client))
            found += [
                _row(
                    f"{name}: p99 of the time by which calls miss a deadline of {_DEADLINE:g} s",
                    "a no-op that sleeps",
                    slack,
                    _SLACK_GOAL,
                ),
                _row(
                    f"{name}: the slowest of calls with a deadline of {_PATIENCE:g} s",
                    f"SAMPLIT_REDIS_TIMEOUT = {_REDIS_TIMEOUT:g} s",
                    patient,
                    _PATIENT_GOAL,
                ),
                _row(
                    f"{name}: from its end until {_SETTLED} newcomers in a row are recorded",
                    "1 s",
                    recovery,
                    _RECOVERY_GOAL,
                ),
            ]
    return found


async def _load(target: Target, deadline: float) -> Outcome:
    async with target.connected(4) as connections:
        return await open_loop(connections, new_users("cta"), rate=_RATE, seconds=_SECONDS, timeout=deadline)


def _slack(outcome: Outcome) -> float:
    """Return how many seconds after their deadlines calls end."""
    return float(np.quantile(np.maximum(outcome.latencies - _DEADLINE, 0), 0.99))


async def _heal(proxy: Proxy, client: Client) -> float:
    """End the trouble. Return the seconds until every user is recorded again."""
    proxy.delay, proxy.is_silent = 0.0, False
    if proxy.is_away:
        await proxy.come_back()
    begin, settled = time.monotonic(), 0
    while settled < _SETTLED:
        request = pb.AllocateUserRequest(experiment_id="cta", user_identifier=secrets.token_hex(8))
        try:
            answer = await client.allocation.AllocateUser(request, metadata=client.metadata, timeout=_DEADLINE)
            settled = settled + 1 if answer.assignment_state == pb.ASSIGNMENT_STATE_NEW else 0
        except grpc.aio.AioRpcError:
            settled = 0
        await asyncio.sleep(0.01)
    return time.monotonic() - begin


@asynccontextmanager
async def _behind_a_proxy(folder: Path) -> AsyncIterator[tuple[Client, Target, Proxy]]:
    """Yield a server whose Redis is behind a proxy, with an experiment."""
    directory = DataDirectory.open(folder / "engines")
    engines = EmbeddedEngines(directory, lambda _: None)
    stores = await engines.start()
    proxy = await Proxy.start(folder / "proxy.sock", Path(urlsplit(stores.redis_url).path))
    installation = Installation(folder / "data", SAMPLIT_POSTGRES_DSN=stores.postgres_dsn, SAMPLIT_REDIS_URL=proxy.url)
    try:
        endpoints = await installation.start()
        client = Client(endpoints, installation.key)
        call = {"metadata": client.metadata}
        await client.admin.CreateExperiment(admin.CreateExperimentRequest(experiment=experiment()), **call)
        await client.admin.StartExperiment(admin.StartExperimentRequest(experiment_id="cta"), **call)
        await _heal(proxy, client)
        yield client, Target(int(endpoints.allocation.rpartition(":")[2]), installation.key), proxy
        await client.close()
    finally:
        await installation.stop()
        await proxy.stop()
        await engines.stop()
        directory.close()


def _row(figure: str, reference: str, ratios: list[float], goal: float) -> Row:
    ratio = float(np.median(ratios))
    return Row(
        figure=f"Redis {figure}",
        reference=reference,
        ours=f"{ratio:.2f}",
        ratio=ratio,
        spread=f"{min(ratios):.2f}–{max(ratios):.2f} of {len(ratios)} rounds",
        goal=f"≤ {goal:g}",
        holds=ratio <= goal,
    )
