"""Sends answers as far as the peer's windows and the transport allow (RFC 9113 §5.2), and keeps the rest.

Frames are collected and written together. The usual answer, which fits in all windows, is three frames made by two
calls of `struct`; whatever it must not miss (a closed window, a full transport, a table that is not filled yet) is told
by one number, the quota, which is zero then.
"""

import asyncio
from collections.abc import Callable
from struct import Struct
from typing import Final

from server.transport.http2 import frames
from server.transport.http2.frames import ErrorCode, PeerError, StreamError
from server.transport.http2.response_encoder import ResponseEncoder
from server.transport.http2.stream import Stream

_PREFIX_SIZE: Final = 5
_FRAMES_A_WRITE: Final = 4
_TURN_BYTES: Final = 64 * 1024  # answered without a look at the transport
_ENOUGH: Final = _TURN_BYTES // 2  # of that, for another turn


class Sender:
    """The outgoing half of a connection.

    `finished` is called with each stream that has ended, `room_made` when calls may begin again that were held back.
    `write` is the transport's, as long as there is one.
    """

    def __init__(
        self,
        encoder: ResponseEncoder,
        finished: Callable[[Stream], object],
        room_made: Callable[[], object],
        most_pending: int,
        most_pending_ever: int,
    ) -> None:
        self.write: Callable[[bytes], object] = _write_nowhere
        self.encoder = encoder
        self.out: list[bytes] = []
        self.blocked: dict[int, Stream] = {}
        self.pending_bytes = 0
        self.sent_bytes = 0  # of DATA, ever
        self.is_paused = False
        self.initial_window = frames.DEFAULT_WINDOW
        self.frame_size = frames.DEFAULT_FRAME_SIZE
        self._finished = finished
        self._room_made = room_made
        self._most_pending = most_pending
        self._most_pending_ever = most_pending_ever
        self._window = frames.DEFAULT_WINDOW
        self._at_once = frames.DEFAULT_FRAME_SIZE  # the largest answer that can be one frame of DATA
        self._granted = self._quota = 0
        self._room: asyncio.Future[None] | None = None
        head, tail = encoder.head_block, encoder.tail_block
        self._head_block, self._tail_block = head, tail
        self._front = Struct(f">IBI{len(head)}sIBIBI").pack
        self._back = Struct(f">IBI{len(tail)}s").pack
        self._front_head = len(head) << 8 | frames.HEADERS
        self._back_head = len(tail) << 8 | frames.HEADERS

    # The usual answer

    def answer(self, stream_id: int, message: bytes) -> bool:
        """Send a whole answer of one message, if that is possible at once."""
        size = len(message) + _PREFIX_SIZE
        if size > self._quota or size > self._at_once:
            return False
        self._quota -= size
        self.out += (
            self._front(
                self._front_head,
                frames.END_HEADERS,
                stream_id,
                self._head_block,
                size << 8 | frames.DATA,
                frames.NO_FLAGS,
                stream_id,
                0,
                size - _PREFIX_SIZE,
            ),
            message,
            self._back(
                self._back_head,
                frames.END_HEADERS | frames.END_STREAM,
                stream_id,
                self._tail_block,
            ),
        )
        return True

    # Any answer

    def headers(self, stream: Stream, block: bytes, *, ends: bool = False) -> None:
        """Send a block of fields that the encoder made."""
        flags = frames.END_STREAM if ends else frames.NO_FLAGS
        self.out.append(frames.headers_frames(stream.stream_id, flags, block, self.frame_size))

    def data(self, stream: Stream, body: bytes, *, ends: bool = False) -> None:
        """Send a part of an answer's body, or keep it until that is possible. The last part may end the answer."""
        stream.ends_after_pending = ends
        stream.has_trailers = not ends
        if stream.pending is None:
            stream.pending = bytearray()
        stream.pending += body
        self.pending_bytes += len(body)
        self.blocked[stream.stream_id] = stream
        self._pump_one(stream)
        self.regrant()

    def end(self, stream: Stream, trailers: bytes | None = None) -> None:
        """End an answer, once its body is sent, with a block of literals or the usual tail."""
        stream.ends_after_pending = True
        stream.trailers = trailers
        if not stream.pending:
            self._end_now(stream)
        self.regrant()

    def drop(self, stream: Stream) -> None:
        """Forget what a stream has pending."""
        if self.blocked.pop(stream.stream_id, None) is not None:
            self.pending_bytes -= len(stream.pending or b"")
            stream.pending = None
            self.regrant()
        self._wake(stream)
        self._wake_for_room()

    @property
    def has_room(self) -> bool:
        """Whether so little is kept that more calls may begin."""
        return self.pending_bytes < self._most_pending

    def can_keep(self, message: bytes) -> bool:
        """Return whether an answer may be kept until the client reads it. A single one always may."""
        return not self.pending_bytes or self.pending_bytes + len(message) <= self._most_pending_ever

    async def room(self) -> None:
        """Wait until it may have become possible to keep another message."""
        if self._room is None or self._room.done():
            self._room = asyncio.get_running_loop().create_future()
        await asyncio.shield(self._room)

    def wake_all(self) -> None:
        """Let all who wait for room look again."""
        if self._room is not None and not self._room.done():
            self._room.set_result(None)

    # Windows and the transport

    def enlarge(self, increment: int) -> None:
        """Take a WINDOW_UPDATE of the connection. Raises PeerError."""
        self._spend()
        was_closed = self._window <= 0
        self._window += increment
        if self._window > frames.LARGEST_WINDOW:
            raise PeerError(ErrorCode.FLOW_CONTROL_ERROR, "window of the connection")
        if was_closed and self.blocked:
            self.pump()
        self.regrant()

    def enlarge_stream(self, stream: Stream, increment: int) -> None:
        """Take a WINDOW_UPDATE of a stream. Raises StreamError."""
        stream.credit += increment
        if self._window_of(stream) > frames.LARGEST_WINDOW:
            raise StreamError(ErrorCode.FLOW_CONTROL_ERROR)
        if stream.pending:
            self._pump_one(stream)
            self.regrant()

    def resize_windows(self, initial_window: int) -> None:
        """Take SETTINGS_INITIAL_WINDOW_SIZE, which changes the windows of all streams. `pump` is to follow."""
        self.initial_window = initial_window
        self._at_once = min(self.initial_window, self.frame_size)

    def resize_frames(self, frame_size: int) -> None:
        """Take SETTINGS_MAX_FRAME_SIZE."""
        self.frame_size = frame_size
        self._at_once = min(self.initial_window, self.frame_size)

    def disconnect(self) -> None:
        """Write no more."""
        self.write = _write_nowhere

    def pause(self) -> None:
        """Send no more DATA: the transport has enough."""
        self.is_paused = True
        self.regrant()

    def resume(self) -> None:
        """Go on after `pause`."""
        self.is_paused = False
        self.pump()
        self.regrant()

    def pump(self) -> None:
        """Send what is pending: one frame of each stream at a time, as long as there is room for any."""
        while self.blocked and not self.is_paused:
            sent = False
            for stream in list(self.blocked.values()):
                sent = self._send_frame(stream) or sent
                if self._window <= 0:
                    return
            if not sent:
                return
            self.flush()

    def flush(self) -> None:
        """Write the collected frames."""
        if self.out:
            data = b"".join(self.out)
            self.out.clear()
            self.write(data)
        if self._quota < _ENOUGH:
            self.regrant()

    def regrant(self) -> None:
        """Say anew what may be answered without a look at the state."""
        self._spend()
        if self.encoder.is_settled and not self.blocked and not self.is_paused:
            self._granted = self._quota = max(0, min(self._window, _TURN_BYTES))

    def _spend(self) -> None:
        """Take what was answered off the window."""
        spent = self._granted - self._quota
        self._window -= spent
        self.sent_bytes += spent
        self._granted = self._quota = 0

    def _window_of(self, stream: Stream) -> int:
        return self.initial_window + stream.credit - stream.sent

    def _pump_one(self, stream: Stream) -> None:
        frame_count = 0
        while not self.is_paused and self._send_frame(stream):
            frame_count += 1
            if frame_count % _FRAMES_A_WRITE == 0:
                self.flush()

    def _send_frame(self, stream: Stream) -> bool:
        """Send one frame of what a stream has pending. Return whether there was room for it."""
        self._spend()
        pending = stream.pending
        size = min(self._window, self._window_of(stream), self.frame_size)
        if not pending or size <= 0:
            return False
        piece = bytes(pending[:size])
        del pending[:size]
        self._window -= len(piece)
        stream.sent += len(piece)
        self.sent_bytes += len(piece)
        self.pending_bytes -= len(piece)
        ends = not pending and stream.ends_after_pending and not stream.has_trailers
        flags = frames.END_STREAM if ends else frames.NO_FLAGS
        self.out.append(frames.frame(frames.DATA, flags, stream.stream_id, piece))
        if not pending:
            del self.blocked[stream.stream_id]
            if stream.ends_after_pending:
                self._end_now(stream)
            self._wake(stream)
            self._wake_for_room()
        return True

    def _end_now(self, stream: Stream) -> None:
        if stream.has_trailers:
            trailers = stream.trailers
            block = self.encoder.tail() if trailers is None else self.encoder.other(trailers)
            self.headers(stream, block, ends=True)
        self._finished(stream)

    def _wake_for_room(self) -> None:
        if self.has_room:
            self.wake_all()
            self._room_made()

    @staticmethod
    def _wake(stream: Stream) -> None:
        if stream.drained is not None and not stream.drained.done():
            stream.drained.set_result(None)


def _write_nowhere(_: bytes) -> None:
    """Drop what can reach nobody any more."""
