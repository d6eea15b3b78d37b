"""Load in a closed loop (a fixed number of calls under way) or an open loop (a fixed number of calls a second)."""

import asyncio
import signal
from array import array
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from time import perf_counter

import numpy as np
import numpy.typing as npt

from tests.benchmarks.load.http2 import Connection, Reply

TIMEOUT = 10.0
_TICK_SECONDS = 0.000_25  # calls that are due within these seconds are sent together


@dataclass(frozen=True)
class Outcome:
    """What became of the calls. `seconds` is from the first call to the last answer; `counts` is by gRPC status code;
    latencies are in seconds, in the order of the answers, those of failed calls too; statuses are in the same order."""

    calls: int
    seconds: float
    latencies: npt.NDArray[np.float64]
    statuses: npt.NDArray[np.uint8]
    counts: dict[int, int]

    @property
    def rate(self) -> float:
        """Return the answers a second, of any status."""
        return self.calls / self.seconds

    def quantile(self, q: float, status: int | None = None) -> float:
        """Return a quantile of the latencies, of all calls or of those with this status. NaN without calls."""
        latencies = self.latencies if status is None else self.latencies[self.statuses == status]
        return float(np.quantile(latencies, q)) if latencies.size else float("nan")


@asynccontextmanager
async def connected(
    host: str, port: int, path: str, metadata: Iterable[tuple[str, str]], count: int
) -> AsyncIterator[list[Connection]]:
    """Yield open connections, and close them afterwards. Raises OSError."""
    metadata = tuple(metadata)
    connections: list[Connection] = []
    try:
        for _ in range(count):
            connections.append(await Connection.open(host, port, path, metadata))  # noqa: PERF401 # to be closed
        yield connections
    finally:
        for connection in connections:
            connection.close()


async def closed_loop(
    connections: Sequence[Connection],
    message: Callable[[int], bytes],
    *,
    concurrency: int,
    seconds: float = float("inf"),
    most: float = float("inf"),
    timeout: float | None = TIMEOUT,  # noqa: ASYNC109 # of each call
) -> Outcome:
    """`message(k)` is the k-th request. Ends after `seconds`, or `most` calls. Latency is measured from sending."""
    tally = _Tally()
    until = tally.begin + seconds

    def lane(connection: Connection) -> Callable[[], None]:
        call = connection.call

        def done(reply: Reply) -> None:
            tally.take(reply)
            send()

        def send() -> None:
            number = tally.sent
            if number < most and perf_counter() < until:
                tally.sent = number + 1
                call(message(number), done, timeout)
            else:
                tally.end()

        return send

    lanes = [lane(connection) for connection in connections]
    for number in range(concurrency):
        lanes[number % len(lanes)]()
    return await tally.outcome()


async def open_loop(
    connections: Sequence[Connection],
    message: Callable[[int], bytes],
    *,
    rate: float,
    seconds: float,
    timeout: float | None = TIMEOUT,  # noqa: ASYNC109 # of each call
) -> Outcome:
    """The k-th call is due k / rate seconds after the first, and its latency is measured from then: a stall is seen,
    here too. Needs the main thread and SIGALRM: timers of event loops are good for milliseconds only."""
    tally = _Tally()
    begin, calls, sends = tally.begin, max(1, int(rate * seconds)), [connection.call for connection in connections]
    loop = asyncio.get_running_loop()

    def done(reply: Reply) -> None:
        tally.take(reply)
        if len(tally.statuses) == calls:
            tally.end()

    def send_due() -> None:
        number = tally.sent
        due = min(calls, int((perf_counter() - begin) * rate) + 1)
        tally.sent = due
        for each in range(number, due):
            sends[each % len(sends)](message(each), done, timeout, begin + each / rate)
        if due < calls:
            signal.setitimer(signal.ITIMER_REAL, max(_TICK_SECONDS, begin + due / rate - perf_counter()))

    loop.add_signal_handler(signal.SIGALRM, send_due)
    try:
        send_due()
        return await tally.outcome()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        loop.remove_signal_handler(signal.SIGALRM)


class _Tally:
    """The answers so far."""

    def __init__(self) -> None:
        self.begin = perf_counter()
        self.sent = 0
        self.statuses = bytearray()
        self._latencies = array("d")
        self._ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def take(self, reply: Reply) -> None:
        self.statuses.append(reply.status)
        self._latencies.append(reply.seconds)

    def end(self) -> None:
        """Wait until every call is answered. Return the outcome."""
        if len(self.statuses) == self.sent and not self._ended.done():
            self._ended.set_result(None)

    async def outcome(self) -> Outcome:
        await self._ended
        return Outcome(
            calls=self.sent,
            seconds=perf_counter() - self.begin,
            latencies=np.array(self._latencies),
            statuses=np.frombuffer(bytes(self.statuses), np.uint8),
            counts=dict(sorted(Counter(self.statuses).items())),
        )
