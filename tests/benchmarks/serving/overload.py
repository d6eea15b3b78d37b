"""Three times the calls that can be answered: how many are, how late, and what it does to memory."""

import psutil
import uvloop

from server.runtime.supervision.endpoints import Endpoints, read_endpoints
from tests.benchmarks.load.program import Report, send
from tests.benchmarks.row import Row
from tests.benchmarks.testbed.installation import running
from tests.benchmarks.testbed.runs import load, run
from tests.benchmarks.testbed.testbed import Testbed, interval, testbed
from tests.faults.installation import Installation

_ROUNDS, _SECONDS = 7, 5.0
_CROWD, _CONNECTIONS = 64, 8
_MANY_CONNECTIONS = 64  # so that the calls wait in the server, not in the client for a stream
_FACTOR, _DEADLINE = 3.0, 1.0
_GOODPUT, _LATENCY, _GROWTH = 0.85, 0.5, 64.0  # of capacity; p99 in seconds; MiB
_OK = 0


def rows() -> list[Row]:
    """Goodput, p99 of the calls that succeed, and growth of the server process."""
    with running() as (installation, _):
        endpoints = read_endpoints(installation.path / "server.json")
        assert endpoints is not None
        return uvloop.run(_measure(installation, endpoints))


async def _measure(installation: Installation, endpoints: Endpoints) -> list[Row]:
    async with testbed(installation, endpoints) as bed:
        await bed.redis.config_set("appendfsync", "everysec")
        await bed.start("off")
        server = installation.recorded("server-0")
        goodput, late, statuses = [], [], {}
        memory = 0.0
        for number in range(_ROUNDS + 1):
            with bed.quiet():
                crowd = load(bed.ours, concurrency=_CROWD, connections=_CONNECTIONS, seconds=_SECONDS / 2)
                capacity = (await run(bed.ours, crowd)).report.rate
                overloaded = await _overloaded(bed, capacity)
            await bed.drained()
            if number == 0:
                memory = _mebibytes(server)
                continue
            goodput.append(overloaded.statuses.get(_OK, 0) / overloaded.seconds / capacity)
            late.append(overloaded.ok_times.quantile(0.99))
            statuses = overloaded.statuses
        grown = _mebibytes(server) - memory
    ratio, low, high = interval(goodput)
    p99, soonest, latest = interval(late)
    return [
        Row(
            figure=f"goodput at {_FACTOR:g}× capacity, deadline {_DEADLINE:g} s",
            reference="capacity, closed loop",
            ours=f"{ratio:.0%}; statuses of the last round: {statuses}",
            ratio=ratio,
            spread=f"{low:.2f}–{high:.2f} of {_ROUNDS} rounds",
            goal=f"≥ {_GOODPUT:g}, lower bound",
            holds=low >= _GOODPUT,
        ),
        Row(
            figure="p99 of the calls that succeed meanwhile, from when they were due",
            reference=f"{_LATENCY:g} s",
            ours=f"{p99:.3f} s",
            ratio=p99 / _LATENCY,
            spread=f"{soonest:.3f}–{latest:.3f} s of {_ROUNDS} rounds",
            goal=f"≤ {_LATENCY:g} s",
            holds=p99 <= _LATENCY,
        ),
        Row(
            figure=f"growth of the server process over {_ROUNDS} rounds",
            reference=f"{_GROWTH:g} MiB",
            ours=f"{grown:.0f} MiB",
            ratio=grown / _GROWTH,
            spread="-",
            goal=f"≤ {_GROWTH:g} MiB",
            holds=grown <= _GROWTH,
        ),
    ]


async def _overloaded(bed: Testbed, capacity: float) -> Report:
    return await send(
        load(
            bed.ours,
            connections=_MANY_CONNECTIONS,
            rate=_FACTOR * capacity,
            seconds=_SECONDS,
            warm_up=0.0,
            timeout=_DEADLINE,
        )
    )


def _mebibytes(process: psutil.Process) -> float:
    return float(process.memory_info().rss / 2**20)
