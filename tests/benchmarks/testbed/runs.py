"""Runs of the load generator against a server, in rounds that take turns, and the rows that come of them."""

import asyncio
import os
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import psutil

from tests.benchmarks.load import messages
from tests.benchmarks.load.program import Load, Report, send
from tests.benchmarks.row import Row
from tests.benchmarks.testbed.testbed import Target, Testbed, interval

ROUNDS = int(os.environ.get("ROUNDS", "9"))
SECONDS = float(os.environ.get("ROUND_SECONDS", "1.0"))
MOST_PATIENCE = float(os.environ.get("PATIENCE", "2.0"))  # seconds, for a busy machine, before each run
WARM_UP = 0.2
_LOOK_SECONDS, _SETTLED_PERCENT = 0.2, 15.0  # of all cores
_OK = 0
Runs = Mapping[str, "list[Run]"]


@dataclass(frozen=True)
class Run:
    """What became of the calls of one run, and the processor time of the server for each call, in seconds."""

    report: Report
    cpu: float


def load(target: Target, experiment_id: str = "off", *, context: bool = False, **options: Any) -> Load:
    """New users, 32 calls under way, unless `options` say otherwise."""
    return replace(
        Load(
            address=f"127.0.0.1:{target.port}",
            key=target.key,
            heads=(messages.head(experiment_id),),
            tails=tuple(messages.contexts()) if context else (),
            prefix=f"{secrets.token_hex(4)}-",
            warm_up=WARM_UP,
            seconds=SECONDS,
        ),
        **options,
    )


def lone(target: Target, experiment_id: str = "off", **options: Any) -> Load:
    """New users, one call at a time."""
    return load(target, experiment_id, connections=1, concurrency=1, **options)


async def run(target: Target, what: Load, *, statuses: frozenset[int] = frozenset({_OK})) -> Run:
    """Send the load. Raises AssertionError if a call has another status than these."""
    before = target.processor_seconds()
    report = await send(what)
    spent = target.processor_seconds() - before
    if not set(report.statuses) <= statuses:
        raise AssertionError(f"calls failed: {report.statuses}")
    return Run(report, spent / report.total)


async def prime(target: Target, pool: int, experiment_id: str = "off") -> dict[str, Any]:
    """Let the users of a pool come for the first time, and return the options of a load in which they return."""
    prefix = f"{secrets.token_hex(4)}-"
    first = load(target, experiment_id, prefix=prefix, calls=pool, seconds=60.0, warm_up=0.0)
    await run(target, first)
    return {"returning": 1.0, "pool": pool, "known_prefix": prefix}


async def rounds(bed: Testbed, kinds: Mapping[str, Callable[[], Awaitable[Run]]], count: int = ROUNDS) -> Runs:
    """Rounds in which each kind has its turn, another one first each time. The first is not counted: it warms up."""
    found: dict[str, list[Run]] = {name: [] for name in kinds}
    names = list(kinds)
    for number in range(count + 1):
        with bed.quiet():
            for name in names[number % len(names) :] + names[: number % len(names)]:
                await _settled()
                one = await kinds[name]()
                if number:
                    found[name].append(one)
        await bed.drained()
    return found


async def _settled() -> None:
    """Wait until little else runs on this machine, but not for long."""
    until = time.monotonic() + MOST_PATIENCE
    while time.monotonic() < until:
        psutil.cpu_percent()
        await asyncio.sleep(_LOOK_SECONDS)
        if psutil.cpu_percent() <= _SETTLED_PERCENT:
            return


def rates(runs: Runs) -> dict[str, npt.NDArray[np.float64]]:
    """Answers a second."""
    return {name: np.array([each.report.rate for each in kind]) for name, kind in runs.items()}


def cpu(runs: Runs) -> dict[str, npt.NDArray[np.float64]]:
    """Microseconds of processor time a call."""
    return {name: np.array([each.cpu * 1e6 for each in kind]) for name, kind in runs.items()}


def milliseconds(runs: Runs, q: float) -> dict[str, npt.NDArray[np.float64]]:
    """A quantile of the latencies."""
    return {name: np.array([each.report.ok_times.quantile(q) * 1e3 for each in kind]) for name, kind in runs.items()}


def row(figure: str, against: str, reference: Any, ours: Any, unit: str, goal: str = "-") -> Row:
    """Rounds in pairs: the median of their ratios, and its interval. A goal of "≥" is held by the lower bound."""
    reference, ours = np.asarray(reference, float), np.asarray(ours, float)
    ratio, low, high = interval(ours / reference)
    sign, _, number = goal.partition(" ")
    number = number.partition(",")[0]
    return Row(
        figure=figure,
        reference=f"{against}: {np.median(reference):,.4g} {unit}",
        ours=f"{np.median(ours):,.4g} {unit}",
        ratio=ratio,
        spread=f"{low:.3f}–{high:.3f} of {ours.size} rounds",
        goal=f"{goal}, lower bound" if sign == "≥" else goal,
        holds=sign == "-" or (low >= float(number) if sign == "≥" else ratio <= float(number)),
    )


def bound_row(figure: str, values: Any, unit: str, most: float) -> Row:
    """Rounds against a number that is the goal."""
    value, low, high = interval(values)
    return Row(
        figure=figure,
        reference=f"{most:g} {unit}",
        ours=f"{value:,.4g} {unit}",
        ratio=value / most,
        spread=f"{low:.3g}–{high:.3g} {unit} of {len(values)} rounds",
        goal=f"≤ {most:g} {unit}",
        holds=value <= most,
    )
