"""A minimal gRPC client for one method over plain TCP: one connection, made again when the server ends it."""

import asyncio
import math
from collections import deque
from collections.abc import Callable, Iterable
from time import perf_counter
from typing import Self

from tests.benchmarks.load import frames
from tests.benchmarks.load.connection import Call, Link, Reply
from tests.benchmarks.load.headers import Requests

__all__ = ["Connection", "Reply"]
_CONNECT_SECONDS = 5.0
_RETRY_SECONDS, _REFUSED_SECONDS = 0.1, 0.001
_SWEEP_SECONDS = 0.001  # least time between two checks of deadlines


class Connection:
    """Calls of one method. Those that the server has no room for wait; those that it has not looked at when it says
    GOAWAY are sent again, once; those that it had when it hung up are UNAVAILABLE."""

    def __init__(self, host: str, port: int, path: str, metadata: Iterable[tuple[str, str]]) -> None:
        """Use `open`."""
        self._address = host, port
        self._headers = f"[{host}]:{port}" if ":" in host else f"{host}:{port}", path, tuple(metadata)
        self._loop = asyncio.get_running_loop()
        self._link: Link | None = None
        self._links: set[Link] = set()  # the current link, and links that are ending
        self._queue: deque[Call] = deque()
        self._sweep_at = math.inf
        self._timer: asyncio.TimerHandle | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._closed = False

    @classmethod
    async def open(cls, host: str, port: int, path: str, metadata: Iterable[tuple[str, str]] = ()) -> Self:
        """Return a connection to the server. `path` is "/package.Service/Method". Raises OSError."""
        connection = cls(host, port, path, metadata)
        connection._link = await connection._dial()
        return connection

    def call(
        self,
        message: bytes,
        done: Callable[[Reply], object],
        timeout: float | None = None,
        since: float | None = None,
    ) -> None:
        """Send a serialised message; `done` is called once. Latency counts from `since` (perf_counter), or from now."""
        now = perf_counter()
        deadline = math.inf if timeout is None else now + timeout
        call = Call(message, done, timeout, now if since is None else since, deadline)
        link = self._link
        if link is None or self._queue or not link.send(call):
            self._wait(call)
        if deadline < self._sweep_at:
            self._sweep_when(deadline, now)

    def close(self) -> None:
        """Close. Calls under way end as CANCELLED; new calls are never answered."""
        self._closed = True
        self._link = None
        if self._timer is not None:
            self._timer.cancel()
        if self._connecting is not None:
            self._connecting.cancel()
        for link in self._links:
            link.close()
            self._end(link, frames.CANCELLED)
        self._end_queue(frames.CANCELLED)

    def send_waiting(self) -> None:
        """Send as many waiting calls as there is room for."""
        link = self._link
        if link is not None:
            while self._queue and link.send(self._queue[0]):
                self._queue.popleft()
            link.waiting = bool(self._queue)

    def refused(self, call: Call) -> None:
        """Send the call again: a gRPC server counts a call a moment longer than it takes to answer it."""
        self._queue.appendleft(call)
        self._loop.call_later(_REFUSED_SECONDS, self.send_waiting)

    def leave(self, link: Link, unseen: list[Call]) -> None:
        """Connect again: the server sent GOAWAY on this link."""
        if link is self._link:
            self._link = None
            self._reconnect()
        self._queue.extendleft(call for call in reversed(unseen) if not call.resent)
        for call in unseen:
            if call.resent:
                call.end(frames.UNAVAILABLE)
            call.resent = True
        self.send_waiting()

    def lost(self, link: Link) -> None:
        """Connect again, unless that was done already: this link is gone."""
        self._links.discard(link)
        if link is self._link:
            self._link = None
            self._reconnect()
        self._end(link, frames.UNAVAILABLE)

    def _wait(self, call: Call) -> None:
        self._queue.append(call)
        if self._link is not None:
            self._link.waiting = True

    def _end(self, link: Link, status: int) -> None:
        calls = list(link.calls.values())
        link.calls.clear()
        for call in calls:
            call.end(status)

    def _end_queue(self, status: int) -> None:
        calls, self._queue = self._queue, deque()
        for call in calls:
            call.end(status)

    async def _dial(self) -> Link:
        async with asyncio.timeout(_CONNECT_SECONDS):
            make = self._loop.create_connection(lambda: Link(self, Requests(*self._headers)), *self._address)
            transport, link = await make
            try:
                await link.ready
                if not link.usable:
                    raise ConnectionResetError("the server hung up")
            except BaseException:
                transport.abort()
                raise
        self._links.add(link)
        return link

    def _reconnect(self) -> None:
        if not self._closed:
            self._connecting = self._loop.create_task(self._connect())

    async def _connect(self) -> None:
        while self._link is None:
            try:
                self._link = await self._dial()
            except OSError:
                self._end_queue(frames.UNAVAILABLE)
                await asyncio.sleep(_RETRY_SECONDS)
        self.send_waiting()

    def _sweep_when(self, deadline: float, now: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._sweep_at = deadline
        self._timer = self._loop.call_later(deadline - now, self._end_late_calls)

    def _end_late_calls(self) -> None:
        """End the calls whose deadlines have passed. All calls share one timer, because few need it."""
        now = perf_counter()
        self._sweep_at = math.inf
        late = [call for call in self._queue if call.deadline <= now]
        self._queue = deque(call for call in self._queue if call.deadline > now)
        for link in self._links:
            streams = [stream for stream, call in link.calls.items() if call.deadline <= now]
            late += [link.cancel(stream) for stream in streams]
        self.send_waiting()
        for call in late:
            call.end(frames.DEADLINE_EXCEEDED)
        under_way = [call.deadline for link in self._links for call in link.calls.values()]
        deadline = min([*under_way, *(call.deadline for call in self._queue)], default=math.inf)
        if deadline < math.inf:
            now = perf_counter()
            self._sweep_when(max(deadline, now + _SWEEP_SECONDS), now)
