"""Latency of one call at a time as an installation grows, against itself at the small end."""

import asyncio
from dataclasses import replace

from tests.benchmarks.load import messages
from tests.benchmarks.load.program import Load
from tests.benchmarks.row import Row
from tests.benchmarks.serving.hot_path.bench import Bench
from tests.benchmarks.testbed.runs import SECONDS, lone, milliseconds, rounds, row, run
from tests.benchmarks.testbed.testbed import Target, Testbed

_FEW, _MANY = 10, 10_000  # experiments
_SEGMENTS = 1_000
_STARTED_AT_ONCE = 8
_GOAL = "≤ 1.15"


async def rows(bench: Bench) -> list[Row]:
    """Experiments in use, and segments of one experiment."""
    bed, ours = bench.bed, bench.bed.ours
    ids = [f"x{number:05}" for number in range(_MANY)]
    await _start_all(bed, ids)
    loaded = replace(_spread(ours, ids), concurrency=32, connections=4, calls=2 * _MANY, seconds=600.0, warm_up=0.0)
    await run(ours, loaded)
    await bed.drained()
    experiments = await rounds(
        bed,
        {"few": lambda: run(ours, _spread(ours, ids[:_FEW])), "many": lambda: run(ours, _spread(ours, ids))},
    )
    await bed.start("one-segment", "campaign", min_samples_per_segment=0)
    await bed.start("many-segments", "campaign", min_samples_per_segment=0, max_segments=_SEGMENTS)
    segments = await rounds(
        bed,
        {
            "few": lambda: run(ours, _campaigns(ours, "one-segment", 1)),
            "many": lambda: run(ours, _campaigns(ours, "many-segments", _SEGMENTS)),
        },
    )
    found = []
    for runs, among, few in (
        (experiments, f"{_MANY:,} experiments in use", f"among {_FEW}"),
        (segments, f"{_SEGMENTS:,} segments", "one segment"),
    ):
        p50 = milliseconds(runs, 0.5)
        found.append(row(f"one call at a time among {among}: p50", few, p50["few"], p50["many"], "ms", _GOAL))
    return found


async def _start_all(bed: Testbed, ids: list[str]) -> None:
    for begin in range(0, len(ids), _STARTED_AT_ONCE):
        await asyncio.gather(*(bed.start(each) for each in ids[begin : begin + _STARTED_AT_ONCE]))


def _spread(target: Target, ids: list[str]) -> Load:
    """New users, each asking in the next experiment."""
    return lone(target, heads=tuple(messages.head(each) for each in ids), seconds=2 * SECONDS)


def _campaigns(target: Target, experiment_id: str, count: int) -> Load:
    """New users of so many campaigns."""
    tails = tuple(messages.tail(utm_campaign=f"c{number}") for number in range(count))
    return lone(target, experiment_id, tails=tails)
