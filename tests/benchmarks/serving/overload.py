"""Three times the calls that can be answered: how many are, how late, and what it does to memory."""

import numpy as np
import psutil
import uvloop

from server.runtime.endpoints import Endpoints, read_endpoints
from tests.benchmarks.load.generator import Outcome, open_loop
from tests.benchmarks.row import Row
from tests.benchmarks.testbed.installation import running
from tests.benchmarks.testbed.testbed import Testbed, closed, interval, new_users, testbed
from tests.faults.installation import Installation

_ROUNDS, _SECONDS = 7, 5.0
_CROWD, _CONNECTIONS = 64, 8
_FACTOR, _DEADLINE = 3.0, 1.0
_GOODPUT, _LATENCY, _GROWTH = 0.8, 0.5, 64.0  # of capacity; p99 in seconds; MiB
_OK = 0


def rows() -> list[Row]:
    """Goodput, p99 of the calls that succeed, and growth of the server process."""
    with running() as (installation, _):
        endpoints = read_endpoints(installation.path / "server.json")
        assert endpoints is not None
        return uvloop.run(_measure(installation, endpoints))


async def _measure(installation: Installation, endpoints: Endpoints) -> list[Row]:
    async with testbed(installation, endpoints) as place:
        await place.start("off")
        server = installation.recorded("server-0")
        goodput, late, counts = [], [], {}
        memory = 0.0
        for number in range(_ROUNDS + 1):
            with place.quiet():
                capacity = (await closed(place.ours, new_users("off"), concurrency=_CROWD, seconds=_SECONDS / 2)).rate
                overloaded = await _overloaded(place, capacity)
            await place.drained()
            if number == 0:
                memory = _mebibytes(server)
                continue
            goodput.append(overloaded.counts.get(_OK, 0) / overloaded.seconds / capacity)
            late.append(overloaded.quantile(0.99, _OK))
            counts = overloaded.counts
        grown = _mebibytes(server) - memory
    ratio, low, high = interval(goodput)
    p99 = float(np.median(late))
    return [
        Row(
            figure=f"goodput at {_FACTOR:g}× capacity, deadline {_DEADLINE:g} s",
            reference="capacity, closed loop",
            ours=f"{ratio:.0%}; statuses of the last round: {counts}",
            ratio=ratio,
            spread=f"{low:.2f}–{high:.2f} of {_ROUNDS} rounds",
            goal=f"≥ {_GOODPUT:g}",
            holds=ratio >= _GOODPUT,
        ),
        Row(
            figure="p99 of the calls that succeed meanwhile, from when they were due",
            reference=f"{_LATENCY:g} s",
            ours=f"{p99:.3f} s",
            ratio=p99 / _LATENCY,
            spread=f"{min(late):.3f}–{max(late):.3f} s",
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


async def _overloaded(place: Testbed, capacity: float) -> Outcome:
    async with place.ours.connected(_CONNECTIONS) as connections:
        return await open_loop(
            connections, new_users("off"), rate=_FACTOR * capacity, seconds=_SECONDS, timeout=_DEADLINE
        )


def _mebibytes(process: psutil.Process) -> float:
    return float(process.memory_info().rss / 2**20)
