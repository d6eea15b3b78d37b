"""Collects the bodies of calls that come in pieces, and bounds how much of them is kept."""

from typing import TYPE_CHECKING

from server.transport.http2 import frames
from server.transport.rpc.call import Call
from server.transport.rpc.messages import PREFIX_SIZE, MessageReader
from server.transport.rpc.status import Code, StatusError

if TYPE_CHECKING:
    from server.transport.connection import Connection

_MOST_DISCARDED = 16 * 1024  # of a refused call: a short request ends by itself, a long one must be stopped


class Bodies:
    """The bodies of one connection's calls."""

    def __init__(self, connection: "Connection") -> None:
        self._connection = connection
        self._options = connection.options
        self.buffered = 0

    def take(self, call: Call, body: bytes, *, ends: bool) -> None:
        """Take a part of a call's body, and start the call once its message is there."""
        call.is_complete = ends
        refusal = call.request.route.refusal
        if refusal is not None:
            if ends or call.body_size > _MOST_DISCARDED:
                self._connection.calls.refuse(call, refusal)
            return
        try:
            self._read(call, body)
            if ends:
                self._end(call)
        except StatusError as error:
            call.cancel()
            self._connection.calls.answer_error(call, self._options.describe(error))
            return
        if not ends:
            self.grant(call)

    def end(self, call: Call) -> None:
        """End a request that has no body, or no more of it."""
        self.take(call, b"", ends=True)

    def grant(self, call: Call) -> None:
        """Let the client send more of a call, unless its handler has much to read already."""
        window = self._options.stream_window
        if call.owed > window // 2 and call.unread < window:
            self._connection.send_control(frames.window_update_frame(call.stream_id, call.owed))
            call.owed = 0

    def was_read(self, call: Call, size: int) -> None:
        """Note that a handler has read a message of so many bytes."""
        call.unread -= size + PREFIX_SIZE
        self._count(call)
        if not call.is_complete:
            self.grant(call)

    def keep(self, call: Call, message: bytes) -> None:
        """Keep the message of a call that has to wait. Raises StatusError if too much is kept."""
        call.message = message
        self._count(call)
        self._check()

    def drop(self, call: Call) -> None:
        """Forget what came of a call."""
        if call.buffered:
            self._add(-call.buffered)
            call.buffered = 0

    def _read(self, call: Call, body: bytes) -> None:
        route = call.request.route
        if call.reader is None:
            call.start = None  # its message comes in pieces
            limit = None if route.method is None else route.method.message_limit
            call.reader = MessageReader(route.encoding, limit or self._options.message_limit)
        messages = call.reader.feed(body)
        if messages:
            call.incomplete_since = None
        if route.method is not None and route.method.streams_requests:
            for message in messages:
                call.unread += len(message) + PREFIX_SIZE
                call.deliver(message)
        elif len(messages) + (call.message is not None) > 1:
            raise StatusError(Code.INTERNAL, "the call takes one message, and got more")
        elif messages:
            call.message = messages[0]
        self._count(call)
        self._check()

    def _end(self, call: Call) -> None:
        reader = call.reader
        if reader is not None and reader.buffer:
            raise StatusError(Code.INTERNAL, "the last message is cut off")
        method = call.request.route.method
        if method is not None and method.streams_requests:
            call.wake()
            return
        message, call.message = call.message, None
        if message is None:
            raise StatusError(Code.INTERNAL, "the call takes one message, and got none")
        self.drop(call)
        self._connection.calls.dispatch(call, message)

    def _count(self, call: Call) -> None:
        """Count what is kept of a call."""
        kept = call.unread + len(call.message or b"") + (len(call.reader.buffer) if call.reader else 0)
        self._add(kept - call.buffered)
        call.buffered = kept

    def _check(self) -> None:
        """Raise StatusError if too much is kept."""
        if self.buffered > self._options.most_buffered:
            raise StatusError(Code.RESOURCE_EXHAUSTED, "the connection's calls have too much on their way")
        if self._connection.shared.buffered > self._options.most_buffered_in_all:
            raise StatusError(Code.RESOURCE_EXHAUSTED, "the server has no memory for the call's messages")

    def _add(self, size: int) -> None:
        self.buffered += size
        self._connection.shared.buffered += size
