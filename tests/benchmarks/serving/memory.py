"""What an assignment takes in Valkey's memory, and whether more assignments make calls slower."""

import asyncio
import os
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from dataclasses import dataclass

import numpy as np
import uvloop

from allocator.experiment import Group, Reason
from server.runtime.supervision.endpoints import read_endpoints
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
    """An installation, and a connection to its Valkey like the one of a server."""

    bed: Testbed
    connection: FunctionConnection
    epoch: bytes

    async def used(self) -> int:
        return int((await self.bed.redis.info("memory"))["used_memory"])

    async def fill(self, assignments: int) -> None:
        """Store records as the function does, without events, which a worker would have drained."""
        record = RECORD.pack(1_770_000_000, 1, Reason.SAMPLED, 1, 5, _DAY)
        for _ in range(assignments // _CHUNK):
            rows = [PackedRecord(_EXPERIMENT, os.urandom(16), record) for _ in range(_CHUNK)]
            await sticky.restore(self.bed.redis, _SHARD, rows)

    async def settled(self) -> None:
        """Wait until Valkey has rewritten its append-only file."""
        while (await self.bed.redis.info("persistence"))["aof_rewrite_in_progress"]:
            await asyncio.sleep(0.5)

    async def seconds(self) -> tuple[float, float]:
        """Return the median seconds of calls for new users, one at a time, and of round trips to Valkey alone."""
        with self.bed.quiet():
            calls = await closed(self.bed.ours, new_users("off"), concurrency=1, seconds=_SECONDS)
            trips = float(np.median([await self._trip() for _ in range(_TRIPS)]))
            await self.bed.redis.delete(keys.stream(_SHARD), keys.waiting(_SHARD))
        return calls.quantile(0.5), trips

    async def _trip(self) -> float:
        key = os.urandom(16)
        answered: asyncio.Future[list[Found]] = asyncio.get_running_loop().create_future()
        begin = time.perf_counter()
        lookup = Lookup(_EXPERIMENT, key, _DAY, _event(key))
        sticky.allocate(self.connection, _SHARD, self.epoch, [lookup], answered.set_result)
        await answered
        return time.perf_counter() - begin


def rows() -> list[Row]:
    """Measure bytes an assignment at a million; calls among five million against an equal installation without any."""
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
    """Measure rounds of the empty and the full installation, in pairs."""
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
    async with testbed(installation, endpoints) as bed:
        await bed.start("off")
        (epoch,) = await streams.epochs(bed.redis, 1)
        assert epoch is not None
        connection = FunctionConnection(bed.redis, timeout=5.0)
        connecting = asyncio.create_task(connection.run())
        await connection.connected()
        yield _Store(bed, connection, epoch)
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
