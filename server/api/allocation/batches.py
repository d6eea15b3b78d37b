"""Batches of up to 1,000 items, answered in chunks and in turns of the event loop.

Single calls run between the turns. Turns are short while there are single calls, and longer while there are none.
"""

import asyncio
import math
import time
from collections.abc import Awaitable, Sequence
from datetime import datetime
from typing import Any, NamedTuple, TypeAlias, cast

import structlog
from google.rpc import status_pb2
from samplit.allocation.v1 import allocation_service_pb2 as pb

from allocator.errors import SamplitError
from server.allocation.allocate import Allocate, Allocation, AllocationRequest, Candidate, Missing
from server.allocation.convert import MOST_TOGETHER, Convert
from server.allocation.records import OUTAGE
from server.api.allocation.messages import allocation_request, conversion_request, conversion_results
from server.api.allocation.wire import AllocationAnswers
from server.api.status import OK, as_samplit_error, to_status
from storage.records import Found

log = structlog.get_logger()
_WAIT_SECONDS = 0.001
_RECENT_SECONDS = 0.1
_Prepared: TypeAlias = Allocation | Candidate | status_pb2.Status
_Chunk: TypeAlias = "tuple[list[_Prepared], asyncio.Task[list[Found | Exception]]]"


class _Pace(NamedTuple):
    """`chunk`: how many items go to Redis together.

    `turn`: how long a batch may hold the event loop at once, in seconds.
    """

    chunk: int
    turn: float


_BRISK, _GENTLE = _Pace(128, 0.001), _Pace(16, 0.000_2)


class InFlightCalls:
    """Counts the single calls in flight, each within a `with`. They go before batches."""

    def __init__(self) -> None:
        self.count = 0
        self._latest = -math.inf

    def note(self) -> None:
        """Take note of a call that was answered at once."""
        self._latest = time.perf_counter()

    def __enter__(self) -> None:
        """Count a call that begins."""
        self.count += 1
        self._latest = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        """Count a call that ends."""
        self.count -= 1

    @property
    def pace(self) -> _Pace:
        """The pace of batches: gentle while there are single calls, and for a moment after."""
        return _GENTLE if time.perf_counter() - self._latest < _RECENT_SECONDS else _BRISK


class Batches:
    """Runs the use cases for the items of a batch."""

    def __init__(
        self, allocate: Allocate, convert: Convert, answers: AllocationAnswers, in_flight: InFlightCalls
    ) -> None:
        self._answers = answers
        self._in_flight = in_flight
        self._lock = asyncio.Lock()  # one batch has a turn at a time
        self._allocate = allocate
        self._convert = convert

    async def allocate(self, messages: Sequence[pb.AllocateUserRequest], now: datetime) -> bytes:
        """Return a serialised AllocateUsersResponse.

        While Redis works on a chunk, this prepares the next one.
        """
        turn, answers = _Turn(self._in_flight), _Response(self._answers)
        before: _Chunk | None = None
        done = 0
        while done < len(messages):
            begin, done = done, done + self._in_flight.pace.chunk
            prepared = await self._prepare(messages[begin:done], now, turn)
            chunk = prepared, self._record(prepared)
            if before is not None:
                await self._finish(before, turn, answers)
            before = chunk
        if before is not None:
            await self._finish(before, turn, answers)
        return answers.serialise()

    async def convert(
        self, messages: Sequence[pb.RecordConversionRequest], now: datetime
    ) -> pb.RecordConversionsResponse:
        """Return the outcome of every item, in order."""
        items: list[pb.RecordConversionsResponse.Item] = []
        for start in range(0, len(messages), MOST_TOGETHER):
            chunk = messages[start : start + MOST_TOGETHER]
            items += await asyncio.gather(*(self._conversion(message, now) for message in chunk))
        return pb.RecordConversionsResponse(items=items)

    async def _prepare(
        self, messages: Sequence[pb.AllocateUserRequest], now: datetime, turn: "_Turn"
    ) -> list[_Prepared]:
        prepare = self._allocate.prepare_now
        prepared: list[_Prepared] = []
        late: list[tuple[int, AllocationRequest]] = []
        async with self._lock:
            for message in messages:
                try:
                    request = allocation_request(message, now)
                    each = prepare(request)
                    if isinstance(each, Missing):
                        late.append((len(prepared), request))
                        each = OK
                    prepared.append(each)
                except Exception as error:
                    prepared.append(_status(error))
                if turn.is_over:
                    await turn.next()
        await _fill(prepared, [(index, self._allocate.prepare(request)) for index, request in late])
        return prepared

    def _record(self, prepared: list[_Prepared]) -> "asyncio.Task[list[Found | Exception]]":
        lookups = [each.lookup for each in prepared if isinstance(each, Candidate)]
        return asyncio.create_task(self._allocate.records.allocate_all(lookups))

    async def _finish(self, chunk: "_Chunk", turn: "_Turn", answers: "_Response") -> None:
        prepared, recording = chunk
        found = iter(await recording)
        finish = self._allocate.finish_now
        late: list[tuple[int, Awaitable[Allocation | None]]] = []
        async with self._lock:
            for index, each in enumerate(prepared):
                if isinstance(each, Candidate):
                    record = next(found)
                    try:
                        if isinstance(record, Exception):
                            raise record
                        answer = finish(each, record)
                        if isinstance(answer, Missing):
                            late.append((index, answer.load()))
                        else:
                            prepared[index] = answer
                    except OUTAGE as outage:
                        late.append((index, self._allocate.during_outage(each, outage)))
                    except Exception as error:
                        prepared[index] = _status(error)
                if turn.is_over:
                    await turn.next()
        await _fill(prepared, late)
        answers.add(prepared)

    async def _conversion(
        self, message: pb.RecordConversionRequest, now: datetime
    ) -> pb.RecordConversionsResponse.Item:
        try:
            results = await self._convert(conversion_request(message, now))
        except Exception as error:
            return pb.RecordConversionsResponse.Item(status=_status(error))
        return pb.RecordConversionsResponse.Item(status=OK, results=conversion_results(results))


class _Turn:
    """The time that a batch may take of the event loop at once."""

    def __init__(self, in_flight: InFlightCalls) -> None:
        self._in_flight = in_flight
        self._ends = time.perf_counter() + in_flight.pace.turn

    @property
    def is_over(self) -> bool:
        return time.perf_counter() > self._ends

    async def next(self) -> None:
        """Let the single calls run to their end, for a millisecond at most."""
        latest = time.perf_counter() + _WAIT_SECONDS
        await asyncio.sleep(0)
        while self._in_flight.count and time.perf_counter() < latest:  # noqa: ASYNC110 (an event for each call costs)
            await asyncio.sleep(0)
        self._ends = time.perf_counter() + self._in_flight.pace.turn


class _Response:
    """An AllocateUsersResponse that grows chunk by chunk."""

    def __init__(self, answers: AllocationAnswers) -> None:
        self._answers = answers
        self._items: list[bytes] = []
        self._variants: dict[tuple[str, str], pb.Variant] = {}

    def add(self, outcomes: Sequence[_Prepared]) -> None:
        for outcome in outcomes:
            if isinstance(outcome, Allocation):
                self._items.append(self._answers.item(outcome))
                name = outcome.snapshot.experiment.experiment_id, outcome.variant.variant_id
                if name not in self._variants:
                    self._variants[name] = self._answers.variant(outcome)
            else:
                item = pb.AllocateUsersResponse.Item(status=cast("status_pb2.Status", outcome))
                self._items.append(pb.AllocateUsersResponse(items=[item]).SerializeToString())

    def serialise(self) -> bytes:
        variants = {"/".join(name): message for name, message in self._variants.items()}
        return b"".join((*self._items, pb.AllocateUsersResponse(variants=variants).SerializeToString()))


async def _fill(outcomes: list[_Prepared], late: Sequence[tuple[int, Awaitable[Any]]]) -> None:
    """Wait for all outcomes that could not be had at once."""
    results = await asyncio.gather(*(each for _, each in late), return_exceptions=True)
    for (index, _), result in zip(late, results, strict=True):
        outcomes[index] = _status(result) if isinstance(result, Exception) else result


def _status(error: Exception) -> status_pb2.Status:
    known = as_samplit_error(error)
    if known is None:
        log.error("item failed", exc_info=error)
        known = SamplitError("the server failed; its log says why")
    return to_status(known)
