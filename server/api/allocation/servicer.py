"""AllocationService on bytes: parses, delegates and serialises. Any transport can serve it.

AllocateUser has no task of its own: it is answered at once where memory has the answer, else from a callback.
"""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import TypeAlias, TypeVar

from google.protobuf.message import DecodeError, Message
from samplit.allocation.v1 import allocation_service_pb2 as pb

from allocator.errors import MalformedRequestError
from server.allocation.allocate import Allocate, Allocation, Cancellable
from server.allocation.coalescer import settle
from server.allocation.convert import Convert
from server.api.allocation.batches import Batches, InFlightCalls
from server.api.allocation.messages import allocation_request, conversion_request, conversion_results
from server.api.allocation.wire import AllocationAnswers
from server.api.limits import MOST_BYTES, MOST_BYTES_OF_ONE, check_bytes, check_items
from server.clock import Clock

SERVICE = pb.DESCRIPTOR.services_by_name["AllocationService"].full_name
_REQUESTS = pb.AllocateUsersRequest.REQUESTS_FIELD_NUMBER  # of RecordConversionsRequest too
_Request = TypeVar("_Request", bound=Message)
Done: TypeAlias = Callable[[bytes | Exception], None]


class AllocationServicer:
    """The methods of the data plane. Each takes a serialised request, and returns a serialised response."""

    def __init__(self, allocate: Allocate, convert: Convert, clock: Clock) -> None:
        self._allocate = allocate
        self._convert = convert
        self._in_flight = InFlightCalls()
        self._answers = AllocationAnswers()
        self._batches = Batches(allocate, convert, self._answers, self._in_flight)
        self._clock = clock

    def begin_allocate_user(self, message: bytes, done: Done) -> bytes | Cancellable:
        """Return the response if it is known at once. Else return what cancels the call, and call `done` later.

        `done` gets the response or the error. Raises the errors of `Allocate` and of the request's fields.
        """
        request = allocation_request(_parse(pb.AllocateUserRequest, message, MOST_BYTES_OF_ONE), self._clock())
        call = _WaitingCall(self._in_flight, self._answers, done)
        begun = self._allocate.begin(request, call.answer)
        if isinstance(begun, Allocation):
            self._in_flight.note()
            return self._answers.response(begun)
        call.begin(begun)
        return call

    async def allocate_user(self, message: bytes) -> bytes:
        """AllocateUser, for whoever awaits it."""
        future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        begun = self.begin_allocate_user(message, partial(settle, future))
        if isinstance(begun, bytes):
            return begun
        try:
            return await future
        finally:
            begun.cancel()

    async def allocate_users(self, message: bytes) -> bytes:
        """AllocateUsers."""
        check_items(message, "requests", _REQUESTS)
        request = _parse(pb.AllocateUsersRequest, message)
        return await self._batches.allocate(request.requests, self._clock())

    async def record_conversion(self, message: bytes) -> bytes:
        """RecordConversion."""
        request = conversion_request(_parse(pb.RecordConversionRequest, message, MOST_BYTES_OF_ONE), self._clock())
        with self._in_flight:
            results = await self._convert(request)
        return pb.RecordConversionResponse(results=conversion_results(results)).SerializeToString()

    async def record_conversions(self, message: bytes) -> bytes:
        """RecordConversions."""
        check_items(message, "requests", _REQUESTS)
        request = _parse(pb.RecordConversionsRequest, message)
        return (await self._batches.convert(request.requests, self._clock())).SerializeToString()


def _parse(kind: type[_Request], message: bytes, most: int = MOST_BYTES) -> _Request:
    """Parse a request. Raises RequestTooLargeError, MalformedRequestError."""
    check_bytes(message, most)
    try:
        return kind.FromString(message)
    except DecodeError:
        raise MalformedRequestError(f"the request is not a valid {kind.DESCRIPTOR.full_name}") from None


class _WaitingCall:
    """An AllocateUser that waits for the record of its user.

    At its end it lets go of everything, so that it leaves no reference cycle: those made the garbage collector take a
    quarter of the server's time.
    """

    __slots__ = ("_answers", "_done", "_handle", "_in_flight", "_is_counted")

    def __init__(self, in_flight: InFlightCalls, answers: AllocationAnswers, done: Done) -> None:
        self._in_flight = in_flight
        self._answers = answers
        self._done: Done | None = done
        self._handle: Cancellable | None = None
        self._is_counted = False

    def begin(self, handle: Cancellable) -> None:
        """Count the call as in flight, unless it was answered meanwhile."""
        if self._done is not None:
            self._handle = handle
            self._is_counted = True
            self._in_flight.__enter__()

    def answer(self, answer: Allocation | Exception) -> None:
        """Pass the serialised answer on, unless the call was cancelled."""
        done = self._done
        if done is not None:
            self._end()
            done(answer if isinstance(answer, Exception) else self._answers.response(answer))

    def cancel(self) -> None:
        """Give the call up."""
        handle = self._handle
        self._end()
        if handle is not None:
            handle.cancel()

    def _end(self) -> None:
        self._done = self._handle = None
        if self._is_counted:
            self._is_counted = False
            self._in_flight.__exit__()
