"""How long calls take: alone, and at a steady rate, where latency counts from when a call was due."""

from tests.benchmarks.row import Row
from tests.benchmarks.serving.hot_path.bench import POOL, Bench
from tests.benchmarks.testbed.runs import SECONDS, bound_row, load, lone, milliseconds, prime, rates, rounds, row, run

_AIO = "a no-op on grpc.aio"
_LONE_GOALS = {"everysec": "≤ 1.05", "always": "≤ 2.00"}
_STEADY_RATE = 1_000.0
_STEADY_GOALS = {"everysec": "≤ 1.20", "always": "≤ 2.00"}
_HALF_GOAL = 5.0  # ms


async def rows(bench: Bench) -> list[Row]:
    """The p50 of one call at a time."""
    bed, ours, noop = bench.bed, bench.bed.ours, bench.noop
    pool = await prime(ours, POOL)
    await bed.drained()
    found = []
    for appendfsync, goal in _LONE_GOALS.items():
        await bed.redis.config_set("appendfsync", appendfsync)
        runs = await rounds(
            bed,
            {
                "noop": lambda: run(noop, lone(noop)),
                "noop again": lambda: run(noop, lone(noop)),
                "new": lambda: run(ours, lone(ours)),
                "returning": lambda: run(ours, lone(ours, **pool)),
            },
        )
        p50 = milliseconds(runs, 0.5)
        name = f"one call at a time, {appendfsync}: p50"
        found += [
            row(f"A/A: {name}", _AIO, p50["noop"], p50["noop again"], "ms"),
            row(f"{name}, new users", _AIO, p50["noop"], p50["new"], "ms", goal),
            row(f"{name}, returning users", _AIO, p50["noop"], p50["returning"], "ms", "≤ 0.45"),
        ]
    return found


async def open_loop_rows(bench: Bench) -> list[Row]:
    """The p99 at 1,000 calls a second, for each mode of segmentation."""
    bed, ours, noop = bench.bed, bench.bed.ours, bench.noop
    steady = {"rate": _STEADY_RATE, "seconds": 2 * SECONDS}
    found = []
    for appendfsync, goal in _STEADY_GOALS.items():
        await bed.redis.config_set("appendfsync", appendfsync)
        runs = await rounds(
            bed,
            {
                "noop": lambda: run(noop, load(noop, context=True, **steady)),
                "noop again": lambda: run(noop, load(noop, context=True, **steady)),
                **{
                    mode: lambda mode=mode: run(ours, load(ours, mode, context=True, **steady))
                    for mode in ("off", "manual", "auto")
                },
            },
        )
        p99 = milliseconds(runs, 0.99)
        name = f"open loop, {_STEADY_RATE:,.0f} new users a second, {appendfsync}: p99"
        against = f"{_AIO} at the same rate"
        found.append(row(f"A/A: {name}", against, p99["noop"], p99["noop again"], "ms"))
        found += [
            row(f"{name}, {mode}", against, p99["noop"], p99[mode], "ms", goal) for mode in ("off", "manual", "auto")
        ]
    return found


async def half_capacity_rows(bench: Bench) -> list[Row]:
    """The p99 at half of what the closed loop reaches."""
    bed, ours = bench.bed, bench.bed.ours
    found = []
    for appendfsync in ("everysec", "always"):
        await bed.redis.config_set("appendfsync", appendfsync)
        capacity = float(min(rates(await rounds(bed, {"new": lambda: run(ours, load(ours))}, 3))["new"]))
        steady = {"rate": capacity / 2, "seconds": 2 * SECONDS}
        runs = await rounds(bed, {"steady": lambda steady=steady: run(ours, load(ours, **steady))})
        name = f"open loop at half of the capacity, {capacity / 2:,.0f} new users a second, {appendfsync}: p99"
        found.append(bound_row(name, milliseconds(runs, 0.99)["steady"], "ms", _HALF_GOAL))
    return found
