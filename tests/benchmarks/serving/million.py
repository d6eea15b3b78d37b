"""A million users through AllocateUsers, as a campaign sends them. The worker stores them afterwards."""

import time

import asyncpg
import numpy as np
import uvloop

from server.runtime.supervision.endpoints import Endpoints, read_endpoints
from storage.engines.embedded import find_running
from tests.benchmarks.load import messages
from tests.benchmarks.load.generator import Outcome, closed_loop
from tests.benchmarks.row import Row
from tests.benchmarks.testbed.installation import running
from tests.benchmarks.testbed.testbed import Testbed, checked, new_users, testbed
from tests.faults.installation import Installation

_USERS, _BATCH, _UNDER_WAY = 1_000_000, 1_000, 2
_FIRST = 10_000  # users before the first measurement of memory and speed
_SLICE = 100_000
_SERVER_GOAL, _REDIS_GOAL, _SLOWER_GOAL = 64.0, 32.0, 1.15  # MiB; bytes a user; times


def rows() -> list[Row]:
    """Measure users a second, and what grows from 10,000 users to a million."""
    with running() as (installation, _):
        endpoints = read_endpoints(installation.path / "server.json")
        assert endpoints is not None
        return uvloop.run(_measure(installation, endpoints))


async def _measure(installation: Installation, endpoints: Endpoints) -> list[Row]:
    server = installation.recorded("server-0")
    async with testbed(installation, endpoints) as bed:
        for name in ("warm-up", "campaign"):
            await bed.start(name)
        await _send(bed, "warm-up", _SLICE)
        await bed.drained()
        begin = time.perf_counter()
        slices = [await _send(bed, "campaign", _FIRST)]
        resident, used = server.memory_info().rss, await _used(bed)
        with bed.quiet():
            slices += [await _send(bed, "campaign", _SLICE) for _ in range(_USERS // _SLICE)]
        answered = time.perf_counter() - begin
        peak = server.memory_info().rss
        await bed.drained()
        stored = time.perf_counter() - begin
        size = (await _used(bed) - used) / _USERS
        logged = await _logged(installation)
    users = _USERS + _FIRST
    seconds = np.array([1 / (outcome.rate * _BATCH) for outcome in slices[1:]])
    early, late = np.median(seconds[: len(seconds) // 2]), np.median(seconds[len(seconds) // 2 :])
    grown = (peak - resident) / 2**20
    return [
        Row(
            figure=f"{users:,} users in calls of {_BATCH:,}, {_UNDER_WAY} under way",
            reference=f"all of them in the log: {logged:,}",
            ours=f"{users / answered:,.0f} users a second answered; {users / stored:,.0f} a second answered and stored",
            ratio=logged / users,
            spread=f"{1 / seconds.max():,.0f}–{1 / seconds.min():,.0f} a second, by {_SLICE:,}",
            goal="1",
            holds=logged == users,
        ),
        Row(
            figure="time of a user: the second half of them against the first",
            reference=f"{early * 1e6:.1f} µs",
            ours=f"{late * 1e6:.1f} µs",
            ratio=float(late / early),
            spread=f"{seconds.min() * 1e6:.1f}–{seconds.max() * 1e6:.1f} µs",
            goal=f"≤ {_SLOWER_GOAL:g}",
            holds=bool(late <= _SLOWER_GOAL * early),
        ),
        Row(
            figure=f"memory of the server process, {_FIRST:,} to {_USERS:,} users",
            reference=f"{_SERVER_GOAL:g} MiB",
            ours=f"+ {grown:.0f} MiB of {resident / 2**20:.0f}",
            ratio=grown / _SERVER_GOAL,
            spread="-",
            goal=f"≤ {_SERVER_GOAL:g} MiB",
            holds=grown <= _SERVER_GOAL,
        ),
        Row(
            figure="memory of Valkey for each of them, once they are stored",
            reference=f"{_REDIS_GOAL:g} bytes",
            ours=f"{size:.1f} bytes",
            ratio=size / _REDIS_GOAL,
            spread="-",
            goal=f"≤ {_REDIS_GOAL:g} bytes",
            holds=size <= _REDIS_GOAL,
        ),
    ]


async def _send(bed: Testbed, experiment_id: str, users: int) -> Outcome:
    """Send new users, in batches that are made beforehand."""
    user = new_users(experiment_id)
    batches = [messages.batch(user, first, _BATCH) for first in range(0, users, _BATCH)]
    async with bed.ours.connected(_UNDER_WAY, messages.ALLOCATE_USERS) as connections:
        return checked(await closed_loop(connections, batches.__getitem__, concurrency=_UNDER_WAY, most=len(batches)))


async def _used(bed: Testbed) -> int:
    return int((await bed.redis.info("memory"))["used_memory"])


async def _logged(installation: Installation) -> int:
    stores = find_running(installation.path)
    assert stores is not None
    connection = await asyncpg.connect(stores.postgres_dsn)
    count = await connection.fetchval(
        "SELECT count(*) FROM samplit.assignments JOIN samplit.experiments USING (experiment_no)"
        " WHERE experiment_id = 'campaign'"
    )
    await connection.close()
    return int(count)
