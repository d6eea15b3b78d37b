"""Turns many awaited items into few calls.

A lone item is sent at once. Where items arrive crowded, a call waits a little for more items: answers that are released
together save the event loop and gRPC more time than the wait takes.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Generic, TypeVar

from allocator.errors import OverloadedError

Item = TypeVar("Item")
Answer = TypeVar("Answer")
Done = Callable[[Sequence[Answer] | Exception], None]

MOST_IN_CALL = 256
MOST_WAITING = 4_096
_ENOUGH = 64  # with so many items a call waits no longer
_QUIET_TICKS = 16  # turns of the event loop without a new item, after which no more are expected
_LONGEST_SECONDS = 0.003
_CROWDED, _RECENT = 2.0, 0.2
_PROBE_EVERY = 8, 128  # every so many lone items, one waits to find out whether others come; more rarely if none do


class Coalescer(Generic[Item, Answer]):
    """Makes one call at a time, with up to MOST_IN_CALL items."""

    def __init__(
        self, call: Callable[[Sequence[Item], Done[Answer]], None], spin_for_reply: Callable[[], None] = lambda: None
    ) -> None:
        """`call` answers its items in their order, later, or fails for all of them.

        spin_for_reply: called after the call of a lone item, to take its answer at once if it comes soon.
        """
        self._call = call
        self._spin_for_reply = spin_for_reply
        self._waiting: list[tuple[Item, asyncio.Future[Answer]]] = []
        self._is_under_way = False
        self._is_holding = False
        self._crowd = 1.0  # the recent size of a call
        self._lone = 0
        self._probe_every = _PROBE_EVERY[0]
        self._held_since = 0.0
        self._seen = 0
        self._quiet = 0

    def submit(self, item: Item) -> asyncio.Future[Answer]:
        """Return a future of the answer to one item. Raises OverloadedError if too many items are waiting."""
        (future,) = self.submit_all((item,))
        return future

    def submit_all(self, items: Sequence[Item]) -> list[asyncio.Future[Answer]]:
        """Return futures of the answers to items that belong together.

        Raises OverloadedError, and takes none of the items, if too many items are waiting.
        """
        if len(self._waiting) >= MOST_WAITING:
            raise OverloadedError("too many calls are waiting for Redis; try again")
        loop = asyncio.get_running_loop()
        futures: list[asyncio.Future[Answer]] = [loop.create_future() for _ in items]
        self._waiting += zip(items, futures, strict=True)
        if not self._is_under_way and not self._is_holding:
            self._hold_or_send(loop)
        return futures

    def _hold_or_send(self, loop: asyncio.AbstractEventLoop) -> None:
        if len(self._waiting) < _ENOUGH and (self._crowd >= _CROWDED or self._lone >= self._probe_every):
            self._is_holding = True
            self._held_since = time.monotonic()
            self._seen = self._quiet = 0
            loop.call_soon(self._tick, loop)
        else:
            self._send(loop)

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        count = len(self._waiting)
        self._quiet = self._quiet + 1 if count == self._seen else 0
        self._seen = count
        if count < _ENOUGH and self._quiet < _QUIET_TICKS and time.monotonic() - self._held_since < _LONGEST_SECONDS:
            loop.call_soon(self._tick, loop)
        else:
            self._is_holding = False
            self._send(loop)

    def _send(self, loop: asyncio.AbstractEventLoop) -> None:
        waiting = [(item, future) for item, future in self._waiting if not future.done()]  # the caller still waits
        batch, self._waiting = waiting[:MOST_IN_CALL], waiting[MOST_IN_CALL:]
        if not batch:
            return
        self._crowd += _RECENT * (len(batch) - self._crowd)
        if self._crowd >= _CROWDED:
            self._lone, self._probe_every = 0, _PROBE_EVERY[0]
        elif self._lone < self._probe_every:
            self._lone += 1
        else:
            self._lone, self._probe_every = 0, min(2 * self._probe_every, _PROBE_EVERY[1])
        self._is_under_way = True
        self._call([item for item, _ in batch], partial(self._answered, loop, batch))
        if self._crowd < _CROWDED:
            self._spin_for_reply()

    def _answered(
        self,
        loop: asyncio.AbstractEventLoop,
        batch: list[tuple[Item, asyncio.Future[Answer]]],
        answers: Sequence[Answer] | Exception,
    ) -> None:
        self._is_under_way = False
        if isinstance(answers, Exception):
            for _, future in batch:
                if not future.done():
                    future.set_exception(answers)
        else:
            for (_, future), answer in zip(batch, answers, strict=True):
                if not future.done():
                    future.set_result(answer)
        if self._waiting and not self._is_holding:
            self._hold_or_send(loop)
