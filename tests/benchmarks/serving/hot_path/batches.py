"""AllocateUsers, a thousand users a call, and single calls beside it."""

import asyncio

import numpy as np

from tests.benchmarks.load import messages
from tests.benchmarks.row import Row
from tests.benchmarks.serving.hot_path.bench import Bench
from tests.benchmarks.testbed.runs import SECONDS, Run, cpu, load, lone, milliseconds, rates, rounds, row, run

_BATCH, _UNDER_WAY = 1_000, 2
_BESIDE_AFTER = 0.1  # seconds


async def rows(bench: Bench) -> list[Row]:
    """Users a second, and the p99 of calls of one user meanwhile."""
    ours = bench.bed.ours

    def many(**options: float) -> "asyncio.Task[Run]":
        batches = load(
            ours, path=messages.ALLOCATE_USERS, batch=_BATCH, connections=_UNDER_WAY, concurrency=_UNDER_WAY, **options
        )
        return asyncio.ensure_future(run(ours, batches))

    async def beside() -> Run:
        task = many(seconds=SECONDS + 2 * _BESIDE_AFTER)
        await asyncio.sleep(_BESIDE_AFTER)
        found = await run(ours, lone(ours))
        await task
        return found

    runs = await rounds(
        bench.bed,
        {
            "unary": lambda: run(ours, load(ours)),
            "batches": many,
            "alone": lambda: run(ours, lone(ours)),
            "beside": beside,
        },
    )
    rate, time, p99 = rates(runs), cpu(runs), milliseconds(runs, 0.99)
    name = f"AllocateUsers, {_BATCH:,} users a call, two calls under way"
    return [
        row(f"{name}: users a second", "unary", rate["unary"], rate["batches"] * _BATCH, "users/s", "≥ 3"),
        row(f"{name}: CPU a user", "unary", time["unary"], np.asarray(time["batches"]) / _BATCH, "µs"),
        row(
            "AllocateUser of new users beside that, one at a time: p99",
            "alone",
            p99["alone"],
            p99["beside"],
            "ms",
            "≤ 2",
        ),
    ]
