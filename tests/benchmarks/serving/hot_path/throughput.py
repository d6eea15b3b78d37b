"""Closed loop, 32 calls under way: calls a second, and processor time a call."""

from tests.benchmarks.row import Row
from tests.benchmarks.serving.hot_path.bench import CROWD, POOL, Bench
from tests.benchmarks.testbed.runs import cpu, load, prime, rates, rounds, row, run

_AIO, _GO = "a no-op on grpc.aio", "a no-op on grpc-go"


async def rows(bench: Bench) -> list[Row]:
    """New and returning users, against the no-ops."""
    ours, noop, go = bench.bed.ours, bench.noop, bench.go
    pool = await prime(ours, POOL)
    await bench.bed.drained()
    kinds = {
        "noop": lambda: run(noop, load(noop)),
        "noop again": lambda: run(noop, load(noop)),
        "new": lambda: run(ours, load(ours)),
        "returning": lambda: run(ours, load(ours, **pool)),
    }
    if go is not None:
        kinds["go"] = lambda: run(go, load(go))
    runs = await rounds(bench.bed, kinds)
    rate, time = rates(runs), cpu(runs)
    unit = "calls/s"
    found = [
        row(f"A/A: {CROWD}: calls a second", _AIO, rate["noop"], rate["noop again"], unit),
        row(f"A/A: {CROWD}: CPU a call", _AIO, time["noop"], time["noop again"], "µs"),
        row(f"new users, everysec, {CROWD}: calls a second", _AIO, rate["noop"], rate["new"], unit, "≥ 5"),
        row(f"returning users, {CROWD}: calls a second", _AIO, rate["noop"], rate["returning"], unit, "≥ 13"),
        row("new users: CPU a call", _AIO, time["noop"], time["new"], "µs", "≤ 0.12"),
        row("returning users: CPU a call", _AIO, time["noop"], time["returning"], "µs", "≤ 0.07"),
    ]
    if go is not None:
        found += [
            row("new users, everysec: calls a second", _GO, rate["go"], rate["new"], unit, "≥ 0.25"),
            row("returning users: calls a second", _GO, rate["go"], rate["returning"], unit, "≥ 0.60"),
            row("new users: CPU a call", _GO, time["go"], time["new"], "µs"),
            row("returning users: CPU a call", _GO, time["go"], time["returning"], "µs"),
        ]
    return found


async def segmentation_rows(bench: Bench) -> list[Row]:
    """Manual segmentation and clusters, against an unsegmented experiment that gets the same contexts."""
    ours = bench.bed.ours
    modes = {"manual": "≤ 1.05", "auto": "≤ 1.10"}
    runs = await rounds(
        bench.bed,
        {mode: lambda mode=mode: run(ours, load(ours, mode, context=True)) for mode in ("off", *modes)},
    )
    rate, time = rates(runs), cpu(runs)
    against = "unsegmented, with the same contexts"
    return [
        *(
            row(f"{mode} segmentation, {CROWD}: time a call", against, 1e6 / rate["off"], 1e6 / rate[mode], "µs", goal)
            for mode, goal in modes.items()
        ),
        *(row(f"{mode} segmentation: CPU a call", against, time["off"], time[mode], "µs") for mode in modes),
    ]


async def header_rows(bench: Bench) -> list[Row]:
    """Headers that differ in each call, so that no block of headers was ever seen before."""
    ours = bench.bed.ours
    pool = await prime(ours, POOL)
    await bench.bed.drained()
    runs = await rounds(
        bench.bed,
        {
            "new": lambda: run(ours, load(ours)),
            "new, varying": lambda: run(ours, load(ours, varying=True)),
            "returning": lambda: run(ours, load(ours, **pool)),
            "returning, varying": lambda: run(ours, load(ours, varying=True, **pool)),
        },
    )
    time = cpu(runs)
    name = "a deadline and a traceparent that differ in each call"
    return [
        row(f"{name}, new users: CPU a call", "same headers", time["new"], time["new, varying"], "µs", "≤ 1.35"),
        row(
            f"{name}, returning users: CPU a call",
            "same headers",
            time["returning"],
            time["returning, varying"],
            "µs",
        ),
    ]
