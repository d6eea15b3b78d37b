"""What an assignment costs in Valkey's memory, and whether calls get slower as assignments pile up."""

import asyncio
import os
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np
from redis.asyncio import Redis

from allocator.experiment import Group, Reason
from storage.embedded.directory import DataDirectory
from storage.embedded.engines import EmbeddedEngines
from storage.events import AssignmentEvent
from storage.redis import keys, sticky
from storage.redis.client import prepare
from tests.figures.row import Row

_SHARD = 0
_MEASURED, _MOST = 1_000_000, 5_000_000
_PIPELINE = 10_000
_CALLS = 10_000
_BYTES_GOAL, _GROWTH_GOAL = 32.0, 1.15


def rows() -> list[Row]:
    """Bytes an assignment at a million; the round trip that records a user, at five million against none."""
    folder = Path(tempfile.mkdtemp(prefix="smp"))
    folder.chmod(0o711)
    try:
        return asyncio.run(_measure(folder))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def _measure(folder: Path) -> list[Row]:
    directory = DataDirectory.open(folder / "data")
    engines = EmbeddedEngines(directory, lambda _: None, appendfsync="everysec")
    client = Redis.from_url((await engines.start()).redis_url)
    await prepare(client)
    empty = await _seconds(client)
    before = await _used(client)
    await _fill(client, _MEASURED)
    size = (await _used(client) - before) / _MEASURED
    await _fill(client, _MOST - _MEASURED)
    full = await _seconds(client)
    await client.aclose()
    await engines.stop()
    directory.close()
    ratio = float(np.median(full) / np.median(empty))
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
        Row(
            figure=f"the round trip of a new user among {_MOST:,} assignments: median",
            reference=f"{np.median(empty) * 1e6:.0f} µs among none",
            ours=f"{np.median(full) * 1e6:.0f} µs",
            ratio=ratio,
            spread=f"{_CALLS:,} calls each",
            goal=f"≤ {_GROWTH_GOAL}×",
            holds=ratio <= _GROWTH_GOAL,
        ),
    ]


async def _used(client: Redis) -> int:
    return int((await client.info("memory"))["used_memory"])


async def _fill(client: Redis, assignments: int) -> None:
    """Records as the function stores them, without their events, which are drained in an installation."""
    record = sticky.pack(_event(bytes(16)))
    for _ in range(assignments // _PIPELINE):
        async with client.pipeline(transaction=False) as pipe:
            for _ in range(_PIPELINE):
                bucket, field = keys.bucket_and_field(1, os.urandom(16))
                pipe.hset(keys.record_prefix(_SHARD).encode() + bucket, field, record)
            await pipe.execute()


async def _seconds(client: Redis) -> list[float]:
    """Of calls for new users, once Valkey has written its files anew; their events are deleted."""
    while (await client.info("persistence"))["aof_rewrite_in_progress"]:
        await asyncio.sleep(0.5)
    seconds = []
    for _ in range(_CALLS):
        key = os.urandom(16)
        lookups = [sticky.Lookup(1, key, _event(key))]
        begin = time.perf_counter()
        await sticky.allocate(client, _SHARD, lookups)
        seconds.append(time.perf_counter() - begin)
    await client.delete(keys.stream(_SHARD))
    return seconds


def _event(user_key: bytes) -> AssignmentEvent:
    return AssignmentEvent(
        experiment=1,
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
