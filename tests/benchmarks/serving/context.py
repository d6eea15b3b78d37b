"""What reading a context costs, and how a flood of unseen user agents slows calls with known ones."""

import asyncio
import gzip
import itertools
import time
from datetime import UTC, datetime
from typing import Any

import numpy as np
from samplit.admin.v1 import experiment_pb2
from samplit.admin.v1 import experiment_service_pb2 as admin
from samplit.allocation.v1 import allocation_service_pb2 as pb
from samplit.allocation.v1 import context_pb2

from allocator.context import Web, extract
from server.runtime.supervision.endpoints import read_endpoints
from tests.benchmarks.row import Row
from tests.benchmarks.testbed.installation import running
from tests.faults.installation import Client, Installation
from tests.support.data import data_file

_AGENTS = "ua/matomo_device_detector.tsv.gz"
_KNOWN = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_4 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) "
    "Version/17.4 Mobile/15E148 Safari/604.1"
)
_COST_GOAL, _FLOOD_GOAL = 15.0, 2.0  # µs; times the p99 before the flood
_ROUNDS, _CALLS = 200, 500
_FLOOD, _FLOODS, _FLOOD_RATE, _PROBE_RATE = 20_000, 5, 400, 50  # user agents, and calls a second


def rows() -> list[Row]:
    """Measure the cost alone, then the flood through a running server."""
    result = [_cost()]
    path = data_file(_AGENTS)
    if path is None:
        print("the user agents are not here: their row is left out (see tests/data.py)")  # noqa: T201
        return result
    with gzip.open(path, "rt") as lines:
        agents = list(dict.fromkeys(line.split("\t")[0] for line in lines))[:_FLOOD]
    with running() as (installation, runner):
        pairs = np.array(runner.run(_flood(installation, agents)))
    ratios = pairs[:, 1] / pairs[:, 0]
    before, during = np.median(pairs, axis=0)
    ratio = float(np.median(ratios))
    return [
        *result,
        Row(
            figure=f"calls with known agents while {_FLOOD:,} unseen agents come, {_FLOOD_RATE} a second: p99",
            reference=f"{before * 1e3:.2f} ms while as many known ones come",
            ours=f"{during * 1e3:.2f} ms",
            ratio=ratio,
            spread=f"[{ratios.min():.2f}, {ratios.max():.2f}] of {len(ratios)} rounds",
            goal=f"≤ {_FLOOD_GOAL:.0f}×",
            holds=ratio <= _FLOOD_GOAL,
        ),
    ]


def _cost() -> Row:
    web = Web(
        utm_source="Instagram",
        utm_medium="paid_social",
        utm_campaign="spring_sale",
        referrer="https://l.instagram.com/",
        landing_path="/pricing?x=1",
        user_agent=_KNOWN,
        country_code="BR",
        language="pt-BR",
        time_zone="America/Sao_Paulo",
        returning=True,
    )
    attributes, at = {"plan": "pro"}, datetime(2026, 3, 1, tzinfo=UTC)
    seconds = []
    for _ in range(_ROUNDS):
        begin = time.perf_counter()
        for _ in range(_CALLS):
            extract(web, attributes, int(at.timestamp()), "UTC")
        seconds.append((time.perf_counter() - begin) / _CALLS)
    micros = np.array(seconds) * 1e6
    median = float(np.median(micros))
    return Row(
        figure="a web context of 11 fields, its user agent cached",
        reference=f"{_COST_GOAL:g} µs",
        ours=f"{median:.1f} µs",
        ratio=median / _COST_GOAL,
        spread=f"[{np.quantile(micros, 0.1):.1f}, {np.quantile(micros, 0.9):.1f}] of {_ROUNDS} rounds, 80 %",
        goal=f"≤ {_COST_GOAL:g} µs",
        holds=median <= _COST_GOAL,
    )


async def _flood(installation: Installation, agents: list[str]) -> list[list[float]]:
    """Return by round the p99 of probes in seconds: while known agents arrive, and while unseen agents do."""
    endpoints = read_endpoints(installation.path / "server.json")
    assert endpoints is not None
    client = Client(endpoints, installation.key)
    variants = [experiment_pb2.Variant(name=name) for name in ("Control", "A")]
    message = experiment_pb2.Experiment(experiment_id="flood", name="Flood", variants=variants)
    await client.admin.CreateExperiment(admin.CreateExperimentRequest(experiment=message), metadata=client.metadata)
    await client.admin.StartExperiment(admin.StartExperimentRequest(experiment_id="flood"), metadata=client.metadata)
    users = itertools.count()
    probe = itertools.repeat(_KNOWN)
    await asyncio.gather(_calls(client, users, probe, 200, 500), _calls(client, users, probe, 200, 500))  # warm up
    unseen = iter(agents)
    calls = _FLOOD // _FLOODS
    rounds = []
    for _ in range(_FLOODS):
        p99 = []
        for flood in (itertools.repeat(_KNOWN), unseen):
            probes, _ = await asyncio.gather(
                _calls(client, users, probe, _PROBE_RATE * calls // _FLOOD_RATE, _PROBE_RATE),
                _calls(client, users, flood, calls, _FLOOD_RATE),
            )
            p99.append(float(np.quantile(probes, 0.99)))
        rounds.append(p99)
    await client.close()
    return rounds


async def _calls(client: Client, users: Any, agents: Any, count: int, rate: int) -> list[float]:
    """Make calls in an open loop, at a fixed rate. Return the seconds of each."""
    loop = asyncio.get_running_loop()
    begin = loop.time()
    seconds: list[float] = []

    async def call(agent: str) -> None:
        request = pb.AllocateUserRequest(
            experiment_id="flood", user_identifier=f"u{next(users)}", web=context_pb2.WebContext(user_agent=agent)
        )
        sent = loop.time()
        await client.allocation.AllocateUser(request, metadata=client.metadata)
        seconds.append(loop.time() - sent)

    async with asyncio.TaskGroup() as group:
        for number in range(count):
            await asyncio.sleep(max(0.0, begin + number / rate - loop.time()))
            group.create_task(call(next(agents)))
    return seconds
