"""Turns many awaited items into few calls: what arrives while a call is under way goes with the next."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from allocator.errors import BacklogFullError

Item = TypeVar("Item")
Answer = TypeVar("Answer")

BATCH = 256
_MOST_WAITING = 20_000


class Coalescer(Generic[Item, Answer]):
    """One call at a time for each shard, each with up to BATCH items. A lone item goes at once."""

    def __init__(self, call: Callable[[int, Sequence[Item]], Awaitable[list[Answer]]]) -> None:
        """`call` answers the items of a shard in their order, or fails for all of them."""
        self._call = call
        self._waiting: dict[int, deque[tuple[Item, asyncio.Future[Answer]]]] = {}
        self._flushing: dict[int, asyncio.Task[None]] = {}

    def submit(self, shard: int, item: Item) -> asyncio.Future[Answer]:
        """The answer to one item, later. Raises BacklogFullError when too many are waiting."""
        waiting = self._waiting.setdefault(shard, deque())
        if len(waiting) >= _MOST_WAITING:
            raise BacklogFullError("too many calls are waiting for Redis; try again")
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        waiting.append((item, future))
        if shard not in self._flushing:
            self._flushing[shard] = asyncio.create_task(self._flush(shard, waiting))
        return future

    async def _flush(self, shard: int, waiting: deque[tuple[Item, asyncio.Future[Answer]]]) -> None:
        try:
            while waiting:
                batch = [waiting.popleft() for _ in range(min(BATCH, len(waiting)))]
                await self._answer(shard, batch)
        finally:
            del self._flushing[shard]

    async def _answer(self, shard: int, batch: list[tuple[Item, asyncio.Future[Answer]]]) -> None:
        try:
            answers = await self._call(shard, [item for item, _ in batch])
        except Exception as error:
            for _, future in batch:
                if not future.done():
                    future.set_exception(error)
            return
        for (_, future), answer in zip(batch, answers, strict=True):
            if not future.done():
                future.set_result(answer)
