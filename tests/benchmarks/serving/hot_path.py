"""The serving path against gRPC itself: a no-op with the same messages, interceptors and set-up, in the same run."""

import asyncio
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import uvloop
from samplit.allocation.v1 import allocation_service_pb2 as pb
from samplit.allocation.v1.context_pb2 import WebContext

from server.runtime.endpoints import Endpoints, read_endpoints
from tests.benchmarks.load import messages
from tests.benchmarks.load.generator import Outcome, closed_loop, open_loop
from tests.benchmarks.row import Row
from tests.benchmarks.testbed.installation import running
from tests.benchmarks.testbed.testbed import Target, Testbed, checked, closed, interval, new_users, testbed
from tests.faults.installation import Installation

_ROUNDS, _SECONDS = 15, 1.5
_CROWD = 32  # calls under way
_POOL = 2_000  # returning users
_QUARTER = 0.25
_BATCH, _BATCHES, _BATCHES_UNDER_WAY = 1_000, 40, 2
_FEW, _MANY = 10, 10_000  # experiments
_SEGMENTS = 1_000


def rows() -> list[Row]:
    """The serving rows of the design, on two cores: see tests/benchmarks/testbed.py for who runs where."""
    with running() as (installation, _):
        endpoints = read_endpoints(installation.path / "server.json")
        assert endpoints is not None
        return uvloop.run(_measure(installation, endpoints))


async def _measure(installation: Installation, endpoints: Endpoints) -> list[Row]:
    async with testbed(installation, endpoints) as place:
        await place.start("off")
        await place.start("manual", "source", "device", min_samples_per_segment=0)
        await place.start_clustered("auto")
        found = await _throughput(place)
        for appendfsync in ("always", "everysec"):
            found += await _latency(place, appendfsync)
        await place.redis.config_set("appendfsync", "always")
        found += await _open_loop(place)
        found += await _batches(place)
        found += await _growth(place)
        return found


async def _throughput(place: Testbed) -> list[Row]:
    """Closed loop, everybody new, the append-only file written before each answer (the default)."""
    rounds = await _rounds(
        place,
        {
            "noop": lambda: _crowd(place.noop, new_users("off")),
            "noop again": lambda: _crowd(place.noop, new_users("off")),
            "held": lambda: _crowd(place.held, new_users("off")),
            "ours": lambda: _crowd(place.ours, new_users("off")),
            "context": lambda: _crowd(place.ours, new_users("off", context=True)),
            "manual": lambda: _crowd(place.ours, new_users("manual", context=True)),
            "auto": lambda: _crowd(place.ours, new_users("auto", context=True)),
        },
    )
    rate = {name: np.array([outcome.rate for outcome in outcomes]) for name, outcomes in rounds.items()}
    name = "AllocateUser, all users new, 32 calls under way: calls a second"
    return [
        _row(f"{name} (A/A)", "a no-op", rate["noop"], rate["noop again"], "calls/s", "-"),
        _row(name, "a no-op", rate["noop"], rate["ours"], "calls/s", "≥ 0.80, lower bound"),
        _row(name, "a no-op that holds its replies", rate["held"], rate["ours"], "calls/s", "≥ 0.70"),
        *(
            _row(
                f"{mode} segmentation, 32 calls under way: time of a call",
                "unsegmented, with the same contexts",
                1e6 / rate["context"],
                1e6 / rate[mode],
                "µs",
                goal,
            )
            for mode, goal in (("manual", "≤ 1.05"), ("auto", "≤ 1.10"))
        ),
    ]


async def _latency(place: Testbed, appendfsync: str) -> list[Row]:
    await place.redis.config_set("appendfsync", appendfsync)
    pool = messages.users("off", "pool")
    async with place.ours.connected(4) as connections:
        await closed_loop(connections, pool, concurrency=_CROWD, most=_POOL)
    await place.drained()
    rounds = await _rounds(
        place,
        {
            "noop": lambda: _one(place.noop, new_users("off")),
            "new": lambda: _one(place.ours, new_users("off")),
            "returning": lambda: _one(place.ours, messages.returning(pool, _POOL)),
        },
    )
    p50 = {name: np.array([o.quantile(0.5) for o in outcomes]) * 1e3 for name, outcomes in rounds.items()}
    name = f"AllocateUser, one call at a time, appendfsync {appendfsync}: p50"
    found = [_row(f"{name}, new users", "a no-op", p50["noop"], p50["new"], "ms", "≤ 1.50")]
    if appendfsync == "always":
        found.append(_row("the same, returning users", "a no-op", p50["noop"], p50["returning"], "ms", "≤ 1.15"))
    return found


async def _open_loop(place: Testbed) -> list[Row]:
    """At a quarter of what the closed loop reached, latency from when a call was due."""
    capacity = (await _crowd(place.ours, new_users("off"))).rate
    await place.drained()
    found = []
    for mode in ("off", "manual", "auto"):

        def users(mode: str = mode) -> Callable[[int], bytes]:
            return new_users(mode, context=mode != "off")

        rounds = await _rounds(
            place,
            {
                "noop": lambda: _steady(place.noop, users(), capacity * _QUARTER),
                "ours": lambda: _steady(place.ours, users(), capacity * _QUARTER),
            },
        )
        p99 = {name: np.array([o.quantile(0.99) for o in outcomes]) * 1e3 for name, outcomes in rounds.items()}
        found.append(
            _row(
                f"open loop, {capacity * _QUARTER:,.0f} new users a second, {mode}: p99",
                "a no-op at the same rate",
                p99["noop"],
                p99["ours"],
                "ms",
                "≤ 2.00",
            )
        )
    return found


async def _batches(place: Testbed) -> list[Row]:
    async def many() -> Outcome:
        users = new_users("off")
        batches = [messages.batch(users, number * _BATCH, _BATCH) for number in range(_BATCHES)]
        async with place.ours.connected(2, messages.ALLOCATE_USERS) as connections:
            return checked(
                await closed_loop(connections, batches.__getitem__, concurrency=_BATCHES_UNDER_WAY, most=_BATCHES)
            )

    async def beside() -> Outcome:
        task = asyncio.create_task(many())
        await asyncio.sleep(0.05)
        async with place.ours.connected(1) as connections:
            outcome = checked(await closed_loop(connections, new_users("off"), concurrency=1, seconds=0.4))
        await task
        return outcome

    rounds = await _rounds(
        place,
        {
            "unary": lambda: _crowd(place.ours, new_users("off")),
            "batches": many,
            "alone": lambda: _one(place.ours, new_users("off")),
            "beside": beside,
        },
    )
    users = np.array([outcome.rate * _BATCH for outcome in rounds["batches"]])
    unary = np.array([outcome.rate for outcome in rounds["unary"]])
    alone, next_to = (
        np.array([outcome.quantile(0.99) for outcome in rounds[name]]) * 1e3 for name in ("alone", "beside")
    )
    return [
        _row("AllocateUsers, 1,000 users a call, two calls: users a second", "unary", unary, users, "/s", "≥ 15.0"),
        _row("AllocateUser of new users beside that: p99", "alone", alone, next_to, "ms", "≤ 2.00"),
    ]


async def _growth(place: Testbed) -> list[Row]:
    """Itself at the small end: experiments, and segments."""
    ids = [f"x{number:05}" for number in range(_MANY)]
    await _start_all(place, ids[:_FEW])
    few = await _spread(place, ids[:_FEW])
    await _start_all(place, ids[_FEW:])
    await _spread(place, ids, calls=2 * _MANY)  # each is loaded
    many = await _spread(place, ids)
    await place.start("one-segment", "campaign", min_samples_per_segment=0)
    await place.start("many-segments", "campaign", min_samples_per_segment=0, max_segments=_SEGMENTS)
    segments = await _rounds(
        place,
        {
            "few": lambda: _one(place.ours, _campaigns("one-segment", 1)),
            "many": lambda: _one(place.ours, _campaigns("many-segments", _SEGMENTS)),
        },
    )
    p50 = {name: np.array([o.quantile(0.5) for o in outcomes]) * 1e3 for name, outcomes in segments.items()}
    return [
        _row(f"p50 among {_MANY:,} experiments in use", f"among {_FEW}", few, many, "ms", "≤ 1.15"),
        _row(f"p50 among {_SEGMENTS:,} segments", "one segment", p50["few"], p50["many"], "ms", "≤ 1.15"),
    ]


async def _rounds(place: Testbed, kinds: dict[str, Callable[[], Any]]) -> dict[str, list[Outcome]]:
    """Interleaved; the first round warms up, and is not counted."""
    found: dict[str, list[Outcome]] = {name: [] for name in kinds}
    for number in range(_ROUNDS + 1):
        with place.quiet():
            for name, kind in kinds.items():
                outcome = await kind()
                if number:
                    found[name].append(outcome)
        await place.drained()
    return found


async def _crowd(target: Target, message: Callable[[int], bytes]) -> Outcome:
    return await closed(target, message, concurrency=_CROWD, seconds=_SECONDS)


async def _one(target: Target, message: Callable[[int], bytes]) -> Outcome:
    return await closed(target, message, concurrency=1, seconds=_SECONDS)


async def _steady(target: Target, message: Callable[[int], bytes], rate: float) -> Outcome:
    async with target.connected(4) as connections:
        return checked(await open_loop(connections, message, rate=rate, seconds=2 * _SECONDS))


async def _start_all(place: Testbed, ids: list[str]) -> None:
    for start, end in pairwise([*range(0, len(ids), 8), len(ids)]):
        await asyncio.gather(*(place.start(each) for each in ids[start:end]))


async def _spread(place: Testbed, ids: list[str], calls: int = 4_000) -> "np.typing.NDArray[np.float64]":
    """Milliseconds: the p50 of rounds of new users, each asking in the next experiment."""
    p50 = []
    for _ in range(_ROUNDS if calls == 4_000 else 1):
        users = [new_users(each) for each in ids]
        with place.quiet():
            async with place.ours.connected(1) as connections:
                outcome = await closed_loop(
                    connections,
                    lambda number, users=users: users[number % len(users)](number),
                    concurrency=1,
                    most=calls,
                )
        p50.append(checked(outcome).quantile(0.5) * 1e3)
        await place.drained()
    return np.array(p50)


def _campaigns(experiment_id: str, many: int) -> Callable[[int], bytes]:
    """New users of so many campaigns, in turn."""
    users = new_users(experiment_id)
    contexts = [
        pb.AllocateUserRequest(web=WebContext(utm_campaign=f"c{number}")).SerializeToString() for number in range(many)
    ]
    return lambda number: users(number) + contexts[number % many]


def _row(figure: str, against: str, reference: Any, ours: Any, unit: str, goal: str) -> Row:
    """Rounds in pairs: the median of their ratios and its interval."""
    ratio, low, high = interval(np.asarray(ours) / np.asarray(reference))
    bound = low if "lower bound" in goal else ratio
    words = goal.split()
    holds = (
        True if goal == "-" else bound >= float(words[1].strip(",")) if words[0] == "≥" else ratio <= float(words[1])
    )
    return Row(
        figure=figure,
        reference=f"{against}: {np.median(reference):,.4g} {unit}",
        ours=f"{np.median(ours):,.4g} {unit}",
        ratio=ratio,
        spread=f"{low:.2f}–{high:.2f} of {len(np.asarray(ours))} rounds",
        goal=goal,
        holds=bool(holds),
    )
