"""Reads the frames that are not part of a usual call: everything that RFC 9113 knows and that peers may do wrong."""

from typing import TYPE_CHECKING

from server.transport.http2 import frames
from server.transport.http2.budget import Budget
from server.transport.http2.frames import ErrorCode, PeerError, StreamError
from server.transport.rpc.call import Call
from server.transport.rpc.fields import check_trailers

if TYPE_CHECKING:
    from server.transport.connection import Connection

_HEADER_TABLE_SIZE, _ENABLE_PUSH, _INITIAL_WINDOW, _FRAME_SIZE = 0x1, 0x2, 0x4, 0x5
_LARGEST_FRAME = 2**24 - 1
_SMALL_DATA = 256  # frames that bring less, and complete no message, count as control frames
_CONTROL_FRAMES_A_CALL = 8  # what a call earns its client
_BYTES_A_CONTROL_FRAME = 4096  # of answers sent: that much earns a client another WINDOW_UPDATE
_BLOCKS_TO_LISTS = 4  # a call with too many headers is refused; with so many times more, the connection ends
_MOST_SETTINGS = 32  # in one frame


class FrameReader:
    """The incoming half of a connection, for all frames that its fast path leaves."""

    def __init__(self, connection: "Connection") -> None:
        options = connection.options
        self._connection = connection
        self._block: tuple[int, int, bytearray] | None = None  # stream, flags and bytes of headers that go on
        self._block_limit = _BLOCKS_TO_LISTS * options.header_list_limit
        self._control = Budget(options.control_burst, options.control_per_second, connection.shared.clock)
        self._resets = Budget(options.reset_burst, options.reset_per_second, connection.shared.clock)
        self.is_greeted = False
        self._kinds = (
            self._take_data,
            self._take_headers,
            self._take_priority,
            self._take_reset,
            self._take_settings,
            self._take_push_promise,
            self._take_ping,
            self._take_goaway,
            self._take_window_update,
            self._take_continuation,
        )

    @property
    def is_ready(self) -> bool:
        """Whether a frame of any kind may come: SETTINGS did, and no block of headers is open."""
        return self.is_greeted and self._block is None

    def take(self, kind: int, flags: int, stream_id: int, payload: bytes) -> None:
        """Act on a frame. Raises PeerError."""
        if not self.is_greeted:
            if kind != frames.SETTINGS or flags & frames.ACK:
                raise PeerError(ErrorCode.PROTOCOL_ERROR, "SETTINGS must come first")
            self.is_greeted = True
        if self._block is not None and (kind != frames.CONTINUATION or stream_id != self._block[0]):
            raise PeerError(ErrorCode.PROTOCOL_ERROR, "CONTINUATION must follow")
        if kind < len(self._kinds):
            try:
                self._kinds[kind](flags, stream_id, payload)
            except StreamError as fault:
                self._connection.calls.reset(stream_id, fault.code)
        else:
            self.spend()

    def spend(self, reason: str = "too many frames without calls") -> None:
        """Count a frame that is no use by itself. Raises PeerError if there are too many."""
        calls, sent_bytes = self._connection.calls, self._connection.sender.sent_bytes
        useful = calls.last_id // 2 - calls.wasted
        work = _CONTROL_FRAMES_A_CALL * useful + sent_bytes // _BYTES_A_CONTROL_FRAME
        if not self._control.spend(work):
            raise PeerError(ErrorCode.ENHANCE_YOUR_CALM, reason)

    # Requests

    def _take_data(self, flags: int, stream_id: int, payload: bytes) -> None:
        connection = self._connection
        self._check_not_idle(stream_id, "DATA")
        connection.received += len(payload)
        if connection.received > connection.options.connection_window:
            raise PeerError(ErrorCode.FLOW_CONTROL_ERROR, "window of the connection")
        body = frames.without_padding(flags, payload)
        call = connection.calls.open.get(stream_id)
        ends = bool(flags & frames.END_STREAM)
        if call is None or call.is_complete:
            self.spend()
            if not connection.calls.was_reset(stream_id):
                raise StreamError(ErrorCode.STREAM_CLOSED)
            return
        if not ends and len(body) < _SMALL_DATA:
            self.spend()
        call.owed += len(payload)
        if call.owed > connection.options.stream_window:
            raise StreamError(ErrorCode.FLOW_CONTROL_ERROR)
        call.body_size += len(body)
        expected = call.request.route.content_length
        if expected is not None and (call.body_size > expected or (ends and call.body_size < expected)):
            raise StreamError(ErrorCode.PROTOCOL_ERROR)
        connection.bodies.take(call, body, ends=ends)

    def _take_headers(self, flags: int, stream_id: int, payload: bytes) -> None:
        if not stream_id & 1:
            raise PeerError(ErrorCode.PROTOCOL_ERROR, "HEADERS on a stream that no client opens")
        block = frames.without_priority(flags, stream_id, frames.without_padding(flags, payload))
        self._take_block(stream_id, flags, bytearray(block))

    def _take_continuation(self, flags: int, _: int, payload: bytes) -> None:
        if self._block is None:
            raise PeerError(ErrorCode.PROTOCOL_ERROR, "CONTINUATION of nothing")
        self.spend()
        stream_id, first_flags, block = self._block
        block += payload
        self._take_block(stream_id, first_flags | flags & frames.END_HEADERS, block)

    def _take_block(self, stream_id: int, flags: int, block: bytearray) -> None:
        if len(block) > self._block_limit:
            raise PeerError(ErrorCode.ENHANCE_YOUR_CALM, "a block of headers exceeds the limit")
        if not flags & frames.END_HEADERS:
            self._block = stream_id, flags, block
            return
        self._block = None
        ends = bool(flags & frames.END_STREAM)
        if stream_id > self._connection.calls.last_id:
            self._connection.calls.begin(stream_id, bytes(block), ends=ends)
        else:
            self._take_trailers(stream_id, bytes(block), ends=ends)

    def _take_trailers(self, stream_id: int, block: bytes, *, ends: bool) -> None:
        connection = self._connection
        decoded = connection.requests.decode(block)
        call = connection.calls.open.get(stream_id)
        if call is None:
            self.spend()
            if not connection.calls.was_reset(stream_id):
                raise PeerError(ErrorCode.STREAM_CLOSED, "HEADERS on a closed stream")
        elif call.is_complete:
            raise StreamError(ErrorCode.STREAM_CLOSED)
        elif not ends:
            raise StreamError(ErrorCode.PROTOCOL_ERROR)
        else:
            check_trailers(decoded.fields())
            if call.request.route.content_length not in (None, call.body_size):
                raise StreamError(ErrorCode.PROTOCOL_ERROR)
            connection.bodies.end(call)

    def _take_reset(self, _: int, stream_id: int, payload: bytes) -> None:
        frames.read_number(payload, "RST_STREAM")
        self._check_not_idle(stream_id, "RST_STREAM")
        call = self._connection.calls.open.get(stream_id)
        if call is None:
            self.spend()
            return
        if not self._is_late(call) and not self._resets.spend():
            raise PeerError(ErrorCode.ENHANCE_YOUR_CALM, "too many calls were cancelled")
        self._connection.calls.cancel(call)

    def _is_late(self, call: Call) -> bool:
        return call.deadline is not None and call.deadline <= self._connection.shared.clock()

    # Flow control

    def _take_window_update(self, _: int, stream_id: int, payload: bytes) -> None:
        self.spend()
        increment = frames.read_number(payload, "WINDOW_UPDATE") & frames.LARGEST_WINDOW
        if not stream_id:
            if not increment:
                raise PeerError(ErrorCode.PROTOCOL_ERROR, "WINDOW_UPDATE of 0")
            self._connection.sender.enlarge(increment)
            return
        self._check_not_idle(stream_id, "WINDOW_UPDATE")
        if not increment:
            raise StreamError(ErrorCode.PROTOCOL_ERROR)
        call = self._connection.calls.open.get(stream_id)
        if call is not None:
            self._connection.sender.enlarge_stream(call, increment)

    # The connection

    def _take_settings(self, flags: int, stream_id: int, payload: bytes) -> None:
        if stream_id:
            raise PeerError(ErrorCode.PROTOCOL_ERROR, "SETTINGS of a stream")
        self.spend()
        settings = frames.read_settings(payload)
        if flags & frames.ACK:
            if payload:
                raise PeerError(ErrorCode.FRAME_SIZE_ERROR, "length of SETTINGS")
            return
        if len(settings) > _MOST_SETTINGS:
            raise PeerError(ErrorCode.ENHANCE_YOUR_CALM, "too many settings")
        for name, value in settings:
            self._apply(name, value)
        self._connection.send_control(frames.settings_ack())
        self._connection.sender.pump()
        self._connection.sender.regrant()

    def _apply(self, name: int, value: int) -> None:
        sender = self._connection.sender
        if name == _HEADER_TABLE_SIZE:
            sender.encoder.resize(value)
        elif name == _ENABLE_PUSH:
            if value > 1:
                raise PeerError(ErrorCode.PROTOCOL_ERROR, "ENABLE_PUSH")
        elif name == _INITIAL_WINDOW:
            most_credit = max((call.credit - call.sent for call in self._connection.calls.open.values()), default=0)
            if value + max(0, most_credit) > frames.LARGEST_WINDOW:
                raise PeerError(ErrorCode.FLOW_CONTROL_ERROR, "INITIAL_WINDOW_SIZE")
            sender.resize_windows(value)
        elif name == _FRAME_SIZE:
            if not frames.DEFAULT_FRAME_SIZE <= value <= _LARGEST_FRAME:
                raise PeerError(ErrorCode.PROTOCOL_ERROR, "MAX_FRAME_SIZE")
            sender.resize_frames(value)

    def _take_ping(self, flags: int, stream_id: int, payload: bytes) -> None:
        if stream_id:
            raise PeerError(ErrorCode.PROTOCOL_ERROR, "PING of a stream")
        if len(payload) != 8:
            raise PeerError(ErrorCode.FRAME_SIZE_ERROR, "length of PING")
        self.spend("too_many_pings")
        if flags & frames.ACK:
            self._connection.upkeep.take_pong(payload)
        else:
            self._connection.send_control(frames.ping_frame(payload, ack=True))

    def _take_priority(self, _: int, stream_id: int, payload: bytes) -> None:
        if not stream_id:
            raise PeerError(ErrorCode.PROTOCOL_ERROR, "PRIORITY of the connection")
        self.spend()
        frames.check_priority(stream_id, payload)

    def _take_goaway(self, _: int, stream_id: int, payload: bytes) -> None:
        if stream_id:
            raise PeerError(ErrorCode.PROTOCOL_ERROR, "GOAWAY of a stream")
        if len(payload) < 8:
            raise PeerError(ErrorCode.FRAME_SIZE_ERROR, "length of GOAWAY")
        self.spend()

    def _take_push_promise(self, *_: object) -> None:
        raise PeerError(ErrorCode.PROTOCOL_ERROR, "PUSH_PROMISE of a client")

    def _check_not_idle(self, stream_id: int, name: str) -> None:
        if not stream_id & 1 or stream_id > self._connection.calls.last_id:
            raise PeerError(ErrorCode.PROTOCOL_ERROR, f"{name} on an idle stream")
