"""What an assignment costs in Valkey's memory, and whether calls get slower as assignments pile up."""

import asyncio
import os
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from dataclasses import dataclass

import numpy as np
import uvloop

from allocator.experiment import Group, Reason
from server.runtime.endpoints import read_endpoints
from server.tasks import end
from storage.events import AssignmentEvent
from storage.records import RECORD, Found, Lookup, PackedRecord
from storage.redis import keys, sticky, streams
from storage.redis.function_connection import FunctionConnection
from tests.benchmarks.row import Row
from tests.benchmarks.testbed.installation import running
from tests.benchmarks.testbed.testbed import Testbed, closed, interval, new_users, testbed
from tests.faults.installation import Installation

_SHARD, _DAY, _EXPERIMENT = 0, 20_000, 1
_MEASURED, _MOST = 1_000_000, 5_000_000
_CHUNK = 10_000
_ROUNDS, _SECONDS, _TRIPS = 15, 1.5, 1_000
_BYTES_GOAL, _GROWTH_GOAL = 32.0, 1.15


@dataclass
class _Store:
    """An installation, and a connection to its Valkey like a server's own."""

    place: Testbed
    link: FunctionConnection
    epoch: bytes

    async def used(self) -> int:
        return int((await self.place.redis.info("memory"))["used_memory"])

    async def fill(self, assignments: int) -> None:
        """Records as the function stores them, without their events, which are drained in an installation."""
        record = RECORD.pack(1_770_000_000, 1, Reason.SAMPLED, 1, 5, _DAY)
        for _ in range(assignments // _CHUNK):
            rows = [PackedRecord(_EXPERIMENT, os.urandom(16), record) for _ in range(_CHUNK)]
            await sticky.restore(self.place.redis, _SHARD, rows)

    async def settled(self) -> None:
        """Wait until Valkey has written its files anew."""
        while (await self.place.redis.info("persistence"))["aof_rewrite_in_progress"]:
            await asyncio.sleep(0.5)

    async def seconds(self) -> tuple[float, float]:
        """The medians of calls for new users, one at a time, and of round trips to Valkey alone."""
        with self.place.quiet():
            calls = await closed(self.place.ours, new_users("off"), concurrency=1, seconds=_SECONDS)
            trips = float(np.median([await self._trip() for _ in range(_TRIPS)]))
            await self.place.redis.delete(keys.stream(_SHARD), keys.waiting(_SHARD))
        return calls.quantile(0.5), trips

    async def _trip(self) -> float:
        key = os.urandom(16)
        answered: asyncio.Future[list[Found]] = asyncio.get_running_loop().create_future()
        begin = time.perf_counter()
        lookup = Lookup(_EXPERIMENT, key, _DAY, _event(key))
        sticky.allocate(self.link, _SHARD, self.epoch, [lookup], answered.set_result)
        await answered
        return time.perf_counter() - begin


def rows() -> list[Row]:
    """Bytes an assignment at a million; new users among five million, against a like installation without any."""
    with ExitStack() as stack:
        installations = [stack.enter_context(running())[0] for _ in range(2)]
        return uvloop.run(_measure(*installations))


async def _measure(*installations: Installation) -> list[Row]:
    async with AsyncExitStack() as stack:
        empty, full = [await stack.enter_async_context(_store(each)) for each in installations]
        before = await full.used()
        await full.fill(_MEASURED)
        size = (await full.used() - before) / _MEASURED
        await full.fill(_MOST - _MEASURED)
        await full.settled()
        seconds = np.array([(await empty.seconds(), await full.seconds()) for _ in range(1 + _ROUNDS)])[1:]
    return [
        Row(
            figure=f"memory of an assignment, {_MEASURED:,} of one experiment",
            reference=f"{_BYTES_GOAL:g} bytes",
            ours=f"{size:.1f} bytes",
            ratio=size / _BYTES_GOAL,
            spread="-",
            goal=f"≤ {_BYTES_GOAL:g} bytes",
            holds=size <= _BYTES_GOAL,
        ),
        _growth("AllocateUser of a new user", seconds[:, :, 0], _GROWTH_GOAL),
        _growth("the round trip to Valkey alone", seconds[:, :, 1], None),
    ]


def _growth(figure: str, seconds: "np.typing.NDArray[np.float64]", goal: float | None) -> Row:
    """Rounds of the empty and the full one, in pairs."""
    among_none, among_many = np.median(seconds, axis=0) * 1e6
    ratio, low, high = interval(seconds[:, 1] / seconds[:, 0])
    return Row(
        figure=f"{figure} among {_MOST:,} assignments, one at a time: p50",
        reference=f"among none: {among_none:.0f} µs",
        ours=f"{among_many:.0f} µs",
        ratio=ratio,
        spread=f"{low:.2f}–{high:.2f} of {_ROUNDS} rounds",
        goal="-" if goal is None else f"≤ {goal}×",
        holds=goal is None or ratio <= goal,
    )


@asynccontextmanager
async def _store(installation: Installation) -> AsyncIterator[_Store]:
    endpoints = read_endpoints(installation.path / "server.json")
    assert endpoints is not None
    async with testbed(installation, endpoints) as place:
        await place.start("off")
        (epoch,) = await streams.epochs(place.redis, 1)
        assert epoch is not None
        link = FunctionConnection(place.redis, timeout=5.0)
        connecting = asyncio.create_task(link.run())
        await link.connected()
        yield _Store(place, link, epoch)
        await end(connecting)


def _event(user_key: bytes) -> AssignmentEvent:
    return AssignmentEvent(
        experiment=_EXPERIMENT,
        user_key=user_key,
        variant=1,
        segmentation_version=1,
        segment=5,
        segment_key="source:instagram",
        reason=Reason.SAMPLED,
        group=Group.ADAPTIVE,
        posterior_version=1,
        revision=1,
        propensity=0.5,
        marginal=0.5,
        q_segment=0.5,
        q_global=0.5,
        context={"source": "instagram"},
        assigned_at=1_770_000_000,
    )
