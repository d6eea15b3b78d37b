"""The calls of one connection: how they begin, which of them are refused, and how they end."""

import asyncio
from collections import deque
from typing import TYPE_CHECKING

from server.transport.http2 import frames
from server.transport.http2.frames import ErrorCode, StreamError
from server.transport.http2.stream import Stream
from server.transport.rpc import answers, messages
from server.transport.rpc.call import Call
from server.transport.rpc.metadata import to_fields
from server.transport.rpc.request import Peer
from server.transport.rpc.status import Code, StatusError

if TYPE_CHECKING:
    from server.transport.connection import Connection

_MOST_REMEMBERED = 256  # streams that we reset, and whose frames may still be on their way


class Calls:
    """Calls by stream. Those in `open` are not ended by both sides."""

    def __init__(self, connection: "Connection") -> None:
        self.open: dict[int, Call] = {}
        self.last_id = 0  # the latest stream that the client opened
        self.refuses = False  # after the last GOAWAY: streams are ignored, since the client was told so
        self._connection = connection
        self._shared = connection.shared
        self._options = connection.shared.options
        self._was_reset: dict[int, None] = {}
        self.wasted = 0  # streams that were opened and came to nothing
        self._held: deque[Call] = deque()  # until the client has read some of its answers

    @property
    def peer(self) -> Peer:
        """The client's end of the connection."""
        return self._connection.peer

    # Begin

    def begin(self, stream_id: int, block: bytes, *, ends: bool = False) -> None:
        """Open a stream with a block of headers, which may be all of its request. Raises PeerError."""
        self.last_id = stream_id
        try:
            self._begin(stream_id, block, ends=ends)
        except StreamError as fault:
            self.reset(stream_id, fault.code)
            self._connection.reader.spend()

    def _begin(self, stream_id: int, block: bytes, *, ends: bool) -> None:
        requests = self._connection.requests
        if self.refuses:
            requests.decode(block)
            self._remember(stream_id)
            return
        if len(self.open) >= self._options.most_streams:
            requests.decode(block)  # but do not ask who calls
            raise StreamError(ErrorCode.REFUSED_STREAM)
        request = requests.read(block)
        call = self.open[stream_id] = Call(self, stream_id, request)
        if request.timeout is not None:
            call.deadline = self._shared.clock() + request.timeout
        if not self._connection.sender.has_room:
            call.start = None  # it will have to wait
        route = request.route
        if route.undecided is not None:
            call.decide(route.undecided)
        if route.refusal is None and route.method is not None and route.method.streams_requests:
            self.dispatch(call, b"")
        if ends:
            self._connection.bodies.end(call)

    def dispatch(self, call: Call, message: bytes) -> None:
        """Hand a message to the call's handler, unless it is too late or too much waits already."""
        method = call.request.route.method
        if method is None:
            return
        if call.deadline is not None and call.deadline <= self._shared.clock():
            self.expire(call)
            return
        if method.is_limited and self._shared.waiting >= self._options.most_waiting:
            self._shared.statistics.overloads += 1
            self._options.observe_refusal(call.path, Code.RESOURCE_EXHAUSTED)
            overload = StatusError(Code.RESOURCE_EXHAUSTED, "too many calls wait for this server")
            self.answer_error(call, self._options.describe(overload))
            return
        if not self._connection.sender.has_room:
            self._hold(call, message)
            return
        try:
            answer = call.begin(method.start, message)
        except Exception as error:
            call.fail_with(error)
            return
        if answer is None:
            self.park(call)
        else:
            self.answer(call, answer)

    def go_on_soon(self) -> None:
        """Begin the calls that were held back, in another turn of the event loop."""
        if self._held:
            self._shared.loop.call_soon(self._go_on)

    def _go_on(self) -> None:
        while self._held and self._connection.sender.has_room:
            call = self._held.popleft()
            message, call.message = call.message, None
            self._connection.bodies.drop(call)
            if message is not None and self.open.get(call.stream_id) is call and call.is_active:
                self.dispatch(call, message)

    def _hold(self, call: Call, message: bytes) -> None:
        try:
            self._connection.bodies.keep(call, message)
        except StatusError as error:
            self.answer_error(call, error)
        else:
            self._held.append(call)

    def park(self, call: Call) -> None:
        """Note that a handler will answer later."""
        if not call.is_active:
            return
        method = call.request.route.method
        if method is not None and method.is_limited:
            call.is_counted = True
            self._shared.waiting += 1
        if call.deadline is not None:
            self._shared.time(call)

    # End

    def answer(self, call: Call, message: bytes) -> None:
        """Send the only message of an answer, and end the call."""
        if self.open.get(call.stream_id) is not call:
            return
        sender = self._connection.sender
        if call.is_plain and not call.request.route.zips and sender.answer(call.stream_id, message):
            self._release(call)
            self.finished(call)
        elif not sender.can_keep(message):
            full = "the client reads its answers too slowly"
            self.answer_error(call, StatusError(Code.RESOURCE_EXHAUSTED, full))
        else:
            self._send(call, message)
            self.finish(call)
        self._connection.flush_soon()

    def answer_error(self, call: Call, error: StatusError) -> None:
        """End the call with a status."""
        if self.open.get(call.stream_id) is not call:
            return
        self._release(call)
        sender = self._connection.sender
        if call.pending:  # a message is cut off, which no status can follow
            self.reset(call.stream_id, ErrorCode.CANCEL)
        elif call.has_begun:
            sender.end(call, answers.error_trailers(error, call.trailing_metadata))
        else:
            block = answers.error_only(error, (*call.initial_metadata, *call.trailing_metadata))
            sender.headers(call, sender.encoder.other(block), ends=True)
            self.finished(call)
        self._connection.flush_soon()

    async def send(self, call: Call, message: bytes) -> None:
        """Send one of several messages, and wait until there is room for more."""
        sender = self._connection.sender
        while not sender.has_room and call.is_active:
            await sender.room()
        if call.is_active:
            self._send(call, message)
            self._connection.flush_soon()
            if call.pending:
                call.drained = asyncio.get_running_loop().create_future()
                await call.drained

    def finish(self, call: Call) -> None:
        """End the call with the status OK."""
        sender = self._connection.sender
        self._release(call)
        self._begin_answer(call)
        trailers = answers.ok_trailers(call.trailing_metadata) if call.trailing_metadata else None
        sender.end(call, trailers)
        self._connection.flush_soon()

    def refuse(self, call: Call, refusal: answers.Refusal) -> None:
        """Answer a call whose headers are enough to refuse it."""
        sender = self._connection.sender
        sender.headers(call, sender.encoder.other(refusal.block), ends=not refusal.body)
        call.is_active = False
        if refusal.code is not None:
            self._options.observe_refusal(call.path, refusal.code)
        if refusal.body:
            sender.data(call, refusal.body, ends=True)
        else:
            self.finished(call)

    def expire(self, call: Call) -> None:
        """End a call whose deadline has passed."""
        self._shared.statistics.late += 1
        late = StatusError(Code.DEADLINE_EXCEEDED, "the deadline passed before the call was answered")
        call.cancel()
        self.answer_error(call, late)

    def cancel(self, call: Call) -> None:
        """Forget a call that the client has cancelled."""
        self.wasted += 1
        self.open.pop(call.stream_id, None)
        self._drop(call)

    def reset(self, stream_id: int, code: ErrorCode) -> None:
        """End a stream without a status."""
        self.wasted += 1
        call = self.open.pop(stream_id, None)
        if call is not None:
            self._drop(call)
        self._remember(stream_id)
        self._connection.send_control(frames.reset_frame(stream_id, code))

    def was_reset(self, stream_id: int) -> bool:
        """Return whether frames of a stream are leftovers, which a client sent before it knew that the stream ended."""
        return stream_id in self._was_reset

    def finished(self, stream: Stream) -> None:
        """Close the stream: all of its answer is on its way."""
        call = self.open.pop(stream.stream_id, None)
        if call is not None:
            call.is_active = False
            self._connection.bodies.drop(call)
            if not call.is_complete:  # what the client still sends is not wanted (RFC 9113 §8.1)
                self._remember(call.stream_id)
                self._connection.send_control(frames.reset_frame(call.stream_id, ErrorCode.NO_ERROR))
        if not self.open:
            self._connection.upkeep.note_idle()

    # For messages of a request

    def was_read(self, call: Call, size: int) -> None:
        """Let the client send as many bytes as a handler has read."""
        self._connection.bodies.was_read(call, size)

    def report(self, path: str, error: Exception) -> None:
        """Log a handler's defect."""
        self._shared.report(path, error)

    def _send(self, call: Call, message: bytes) -> None:
        self._begin_answer(call)
        zips = call.compresses and call.request.route.zips and len(message) >= self._options.compress_from
        packed = messages.pack_compressed(message) if zips else messages.pack(message)
        self._connection.sender.data(call, packed)

    def _begin_answer(self, call: Call) -> None:
        if not call.has_begun:
            call.has_begun = True
            extra = to_fields(call.initial_metadata)
            if call.request.route.zips:
                extra.append(answers.GZIP)
            sender = self._connection.sender
            sender.headers(call, sender.encoder.head(extra))

    def _release(self, call: Call) -> None:
        """Count the call no more: it is answered, or nobody waits for it."""
        call.is_active = False
        if call.is_counted:
            call.is_counted = False
            self._shared.waiting -= 1
        if call.deadline is not None:
            self._shared.timed.discard(call)

    def _drop(self, call: Call) -> None:
        was_active = call.is_active
        self._release(call)
        self._connection.sender.drop(call)
        self._connection.bodies.drop(call)
        if was_active:
            call.cancel()
        if not self.open:
            self._connection.upkeep.note_idle()

    def _remember(self, stream_id: int) -> None:
        self._was_reset[stream_id] = None
        if len(self._was_reset) > _MOST_REMEMBERED:
            del self._was_reset[next(iter(self._was_reset))]
