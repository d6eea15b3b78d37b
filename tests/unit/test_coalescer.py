"""Coalescing: few calls, every item answered once, failures told to all."""

import asyncio
from collections.abc import Sequence

import pytest

from server.coalescer import BATCH, Coalescer


async def test_what_arrives_during_a_call_goes_with_the_next() -> None:
    calls: list[tuple[int, list[int]]] = []
    release = asyncio.Event()

    async def call(shard: int, items: Sequence[int]) -> list[int]:
        calls.append((shard, list(items)))
        await release.wait()
        return [item * 10 for item in items]

    coalescer = Coalescer(call)
    answers = [coalescer.submit(0, 0)]
    await asyncio.sleep(0)
    answers += [coalescer.submit(0, item) for item in range(1, BATCH + 5)]
    other = coalescer.submit(1, 7)
    await asyncio.sleep(0)
    release.set()
    assert await asyncio.gather(*answers) == [item * 10 for item in range(BATCH + 5)]
    assert await other == 70
    assert [(shard, len(items)) for shard, items in calls] == [(0, 1), (1, 1), (0, BATCH), (0, 4)]


async def test_a_failure_is_told_to_the_batch_and_the_next_goes_on() -> None:
    async def call(shard: int, items: Sequence[int]) -> list[int]:
        if 0 in items:
            raise ConnectionError("away")
        return list(items)

    coalescer = Coalescer(call)
    failed = [coalescer.submit(0, item) for item in (0, 1)]
    for each in await asyncio.gather(*failed, return_exceptions=True):
        assert isinstance(each, ConnectionError)
    assert await coalescer.submit(0, 2) == 2


async def test_a_caller_who_left_is_no_trouble() -> None:
    async def call(shard: int, items: Sequence[int]) -> list[int]:
        await asyncio.sleep(0)
        return list(items)

    coalescer = Coalescer(call)
    gone, stays = coalescer.submit(0, 1), coalescer.submit(0, 2)
    gone.cancel()
    assert await stays == 2
    with pytest.raises(asyncio.CancelledError):
        await gone
