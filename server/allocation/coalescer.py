"""Turns many awaited items into few calls.

A lone item is sent at once. Where items arrive crowded, a call waits a little for more items: answers that are released
together save the event loop and gRPC more time than the wait takes.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Generic, TypeVar

import structlog

from allocator.errors import OverloadedError

log = structlog.get_logger()
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


class Ticket:
    """An item that waits for its answer. `done` is called with the answer, or with the error."""

    __slots__ = ("_future", "done", "item")

    def __init__(self, item: Any, done: Callable[[Any], None], future: asyncio.Future[Any] | None = None) -> None:
        """`future`: what the caller awaits, if anything. The item is dropped once that is cancelled."""
        self.item = item
        self.done: Callable[[Any], None] | None = done
        self._future = future

    @property
    def is_wanted(self) -> bool:
        """Whether the caller still waits."""
        return self.done is not None and (self._future is None or not self._future.done())

    def cancel(self) -> None:
        """Drop the item if it was not sent yet, and its answer in any case."""
        self.done = None


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
        self._waiting: list[Ticket] = []
        self._is_under_way = False
        self._is_holding = False
        self._crowd = 1.0  # the recent size of a call
        self._lone = 0
        self._probe_every = _PROBE_EVERY[0]
        self._held_since = 0.0
        self._seen = 0
        self._quiet = 0

    def submit(self, item: Item, done: Callable[[Answer | Exception], None]) -> Ticket:
        """Have `done` called with the answer to an item, at once or later.

        Raises OverloadedError, and takes nothing, if too many items are waiting.
        """
        self._check_room()
        ticket = Ticket(item, done)
        self._waiting.append(ticket)
        if not self._is_under_way and not self._is_holding:
            self._hold_or_send(asyncio.get_running_loop())
        return ticket

    def submit_all(self, items: Sequence[Item]) -> list[asyncio.Future[Answer]]:
        """Return futures of the answers to items that belong together. Raises OverloadedError as `submit`."""
        self._check_room()
        loop = asyncio.get_running_loop()
        futures: list[asyncio.Future[Answer]] = []
        for item in items:
            future: asyncio.Future[Answer] = loop.create_future()
            futures.append(future)
            self._waiting.append(Ticket(item, partial(settle, future), future))
        if not self._is_under_way and not self._is_holding:
            self._hold_or_send(loop)
        return futures

    def _check_room(self) -> None:
        if len(self._waiting) >= MOST_WAITING:
            raise OverloadedError("too many calls are waiting for Redis; try again")

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
        waiting = [ticket for ticket in self._waiting if ticket.is_wanted]
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
        self._call([ticket.item for ticket in batch], partial(self._answered, loop, batch))
        if self._crowd < _CROWDED:
            self._spin_for_reply()

    def _answered(
        self,
        loop: asyncio.AbstractEventLoop,
        batch: list[Ticket],
        answers: Sequence[Answer] | Exception,
    ) -> None:
        self._is_under_way = False
        answer_each = [answers] * len(batch) if isinstance(answers, Exception) else answers
        for ticket, answer in zip(batch, answer_each, strict=True):
            if ticket.done is not None:
                try:
                    ticket.done(answer)
                except Exception as error:  # of one caller; the others get their answers
                    log.error("answer not taken", exc_info=error)
        if self._waiting and not self._is_under_way and not self._is_holding:  # a callback may have sent more already
            self._hold_or_send(loop)


def settle(future: asyncio.Future[Answer], answer: Answer | Exception) -> None:
    """Set the result or the exception of a future, unless it was cancelled."""
    if future.done():
        return
    if isinstance(answer, Exception):
        future.set_exception(answer)
    else:
        future.set_result(answer)
