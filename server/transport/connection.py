"""One connection: an asyncio protocol that answers calls of gRPC over HTTP/2.

The usual call is two frames, HEADERS that were seen before and DATA with one message. They are handled here, with as
little work as possible; all other frames are for the FrameReader. All that is answered in one turn of the event loop is
written at once.
"""

import asyncio
from collections.abc import Callable
from typing import Final, cast

from server.transport.bodies import Bodies
from server.transport.calls import Calls
from server.transport.frame_reader import FrameReader
from server.transport.http2 import frames
from server.transport.http2.frames import ErrorCode, PeerError
from server.transport.http2.header_decoder import HeaderDecoder
from server.transport.http2.sender import Sender
from server.transport.rpc import answers
from server.transport.rpc.call import Call
from server.transport.rpc.messages import PREFIX, PREFIX_SIZE
from server.transport.rpc.request import Peer, RequestReader
from server.transport.shared import Shared
from server.transport.tls import ALPN
from server.transport.upkeep import Upkeep

_DATA, _HEADERS = frames.DATA, frames.HEADERS
_END_STREAM, _END_HEADERS = frames.END_STREAM, frames.END_HEADERS
_HEAD_SIZE, _LARGEST_FRAME, _LARGEST_STREAM = frames.HEAD_SIZE, frames.DEFAULT_FRAME_SIZE, frames.LARGEST_STREAM
_TABLE_SIZE: Final = 4096  # of header compression, which is what peers assume without a setting
_MAX_STREAMS, _INITIAL_WINDOW, _MAX_HEADER_LIST = 0x3, 0x4, 0x6
_LINGER_SECONDS = 1.0  # so long a closed connection still reads, since a reset would take away what was sent


class Connection(asyncio.Protocol):
    """Calls of one client, from `connection_made` to `connection_lost`."""

    def __init__(
        self, shared: Shared, made: Callable[["Connection"], bool], lost: Callable[["Connection"], object]
    ) -> None:
        """`made` says whether there is room for another connection; `lost` is called at its end."""
        self.shared = shared
        self.options = shared.options
        self.peer = Peer("")
        self.received = 0  # bytes of DATA that the client may not send again yet
        self.turns = 0  # how often frames came
        self.is_closing = False
        self.transport: asyncio.Transport
        self.requests: RequestReader
        self._made, self._lost = made, lost
        self._rest = b""  # an incomplete frame, or all that came while the transport was full
        self._is_prefaced = False
        self._will_flush = False
        self._takes_calls = False  # a complete block of headers may come now, and begin a call
        self._linger: asyncio.TimerHandle | None = None
        self._window_due = self.options.connection_window // 2
        self.calls = Calls(self)
        self.sender = Sender(
            answers.new_encoder(),
            self.calls.finished,
            self.calls.go_on_soon,
            self.options.most_pending,
            self.options.most_pending_ever,
        )
        self.bodies = Bodies(self)
        self.reader = FrameReader(self)
        self.upkeep = Upkeep(self)

    # From asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greet the client."""
        self.transport = cast("asyncio.Transport", transport)
        self.sender.write = self.transport.write
        self.peer = _peer(self.transport)
        options = self.options
        names = frozenset(name.encode() for name in options.authorise_by)
        self.requests = RequestReader(
            HeaderDecoder(_TABLE_SIZE),
            self.shared.methods,
            self.shared.authorise,
            names,
            self.peer,
            options.header_list_limit,
        )
        settings = {
            _MAX_STREAMS: options.most_streams,
            _INITIAL_WINDOW: options.stream_window,
            _MAX_HEADER_LIST: options.header_list_limit,
        }
        self.sender.out.append(frames.settings_frame(settings))
        if not self._made(self):
            self.is_closing = True
            self.sender.out.append(frames.goaway_frame(0, ErrorCode.ENHANCE_YOUR_CALM, "too many connections"))
            self.sender.flush()
            self.transport.close()
            return
        if not _speaks_http2(self.transport):
            self.fail(ErrorCode.PROTOCOL_ERROR, "TLS must agree on the protocol h2")
            return
        if options.connection_window > frames.DEFAULT_WINDOW:
            increment = options.connection_window - frames.DEFAULT_WINDOW
            self.sender.out.append(frames.window_update_frame(0, increment))
        self.sender.flush()

    def connection_lost(self, _: Exception | None) -> None:
        """Tell all handlers that nobody waits any more."""
        self.is_closing = True
        self.sender.disconnect()
        for call in list(self.calls.open.values()):
            self.calls.cancel(call)
        self.sender.wake_all()
        if self._linger is not None:
            self._linger.cancel()
        self._lost(self)

    def eof_received(self) -> bool:
        """Close: a client that sends no more cannot open windows either."""
        return False

    def pause_writing(self) -> None:
        """Read and answer no more until the client has read what was written."""
        self.sender.pause()
        if not self.transport.is_closing():
            self.transport.pause_reading()

    def resume_writing(self) -> None:
        """Go on after `pause_writing`, with what had come in the meantime."""
        self.sender.resume()
        if not self.sender.is_paused and not self.transport.is_closing():
            self.transport.resume_reading()
            self.data_received(b"")

    def data_received(self, data: bytes) -> None:
        """Take the next bytes of the client, and answer what they complete."""
        if self.is_closing:
            return
        if self._rest:
            data = self._rest + data
        if self.sender.is_paused:
            self._rest = data
            return
        self._will_flush = True
        try:
            begin = 0 if self._is_prefaced else self._take_preface(data)
            if self._is_prefaced:
                begin = self._take_frames(data, begin)
            self._rest = data[begin:]
            if begin:
                self.turns += 1
            if self.received > self._window_due:
                self._return_window()
        except PeerError as fault:
            self.shared.statistics.faults += 1
            self.fail(fault.code, fault.reason)
        self._will_flush = False
        self.sender.flush()
        if self.upkeep.is_draining:
            self.upkeep.close_if_done()

    def _take_preface(self, data: bytes) -> int:
        size = len(frames.PREFACE)
        if data[:size] != frames.PREFACE[: len(data)]:
            raise PeerError(ErrorCode.PROTOCOL_ERROR, "this is not HTTP/2 with prior knowledge")
        if len(data) < size:
            return 0
        self._is_prefaced = True
        return size

    def _take_frames(self, data: bytes, begin: int) -> int:
        """Act on all complete frames, and return where the rest begins."""
        read_head, read_prefix = frames.HEAD.unpack_from, PREFIX.unpack_from
        calls, sender, shared, known = self.calls, self.sender, self.shared, self.requests.known
        opened, answer_at_once, clock = calls.open, sender.answer, shared.clock
        options = self.options
        most_streams, most_waiting, block_limit = options.most_streams, options.most_waiting, options.header_list_limit
        have = len(data)
        while have - begin >= _HEAD_SIZE:
            head, flags, stream_id = read_head(data, begin)
            payload = begin + _HEAD_SIZE
            size = head >> 8
            end = payload + size
            if size > _LARGEST_FRAME:
                raise PeerError(ErrorCode.FRAME_SIZE_ERROR, "a frame is too large")
            if end > have:
                break
            begin = end
            kind = head & 0xFF
            if kind == _DATA and flags == _END_STREAM and size >= PREFIX_SIZE:
                call = opened.get(stream_id)
                if (
                    call is not None
                    and (handler := call.start) is not None
                    and not call.is_complete
                    and shared.waiting < most_waiting
                    and (call.deadline is None or call.deadline > clock())
                ):
                    is_compressed, length = read_prefix(data, payload)
                    if length == size - PREFIX_SIZE and not is_compressed:
                        self.received += size
                        try:
                            answer = handler(call, data[payload + PREFIX_SIZE : end])
                        except Exception as error:
                            call.is_complete = True
                            call.fail_with(error)
                            continue
                        if answer is not None and call.is_plain and answer_at_once(stream_id, answer):
                            del opened[stream_id]
                            continue
                        call.is_complete = True
                        if answer is None:
                            calls.park(call)
                        else:
                            calls.answer(call, answer)
                            self._review()
                            if sender.is_paused:
                                break
                        continue
            elif (
                kind == _HEADERS
                and flags == _END_HEADERS
                and self._takes_calls
                and calls.last_id < stream_id <= _LARGEST_STREAM
                and stream_id & 1
                and size <= block_limit
            ):
                block = data[payload:end]
                request = known.get(block)
                if request is None or len(opened) >= most_streams:
                    calls.begin(stream_id, block)
                else:
                    calls.last_id = stream_id
                    call = opened[stream_id] = Call(calls, stream_id, request)
                    if request.timeout is not None:
                        call.deadline = clock() + request.timeout
                continue
            self.reader.take(kind, flags, stream_id & _LARGEST_STREAM, data[payload:end])
            self._review()
            if sender.is_paused or self.is_closing:
                break
        return begin

    def _review(self) -> None:
        self._takes_calls = self.reader.is_ready and not self.calls.refuses and self.sender.has_room

    # For the parts

    def send_control(self, frame: bytes) -> None:
        """Send a frame that no window holds back."""
        self.sender.out.append(frame)
        self.flush_soon()

    def flush_soon(self) -> None:
        """Write at the end of this turn of the event loop what was answered in it."""
        if not self._will_flush:
            self._will_flush = True
            self.shared.loop.call_soon(self.flush)

    def flush(self) -> None:
        """Write what was answered."""
        self._will_flush = False
        self.sender.flush()
        if self.upkeep.is_draining:
            self.upkeep.close_if_done()

    def stop_taking_calls(self) -> None:
        """Ignore further streams: the client was told which was the last."""
        self.calls.refuses = True
        self._takes_calls = False

    @property
    def has_partial_frame(self) -> bool:
        """Whether a frame or a block of headers has begun and not ended."""
        return bool(self._rest or not self.reader.is_ready) and not self.sender.is_paused

    @property
    def is_greeted(self) -> bool:
        """Whether the client's SETTINGS have come."""
        return self.reader.is_greeted

    def fail(self, code: ErrorCode, reason: str) -> None:
        """End the connection, and say why."""
        self.sender.out.append(frames.goaway_frame(self.calls.last_id, code, reason))
        self.close()

    def close(self) -> None:
        """Write what is left, read what still comes for a moment, and hang up."""
        if self.is_closing:
            return
        self.is_closing = True
        for call in list(self.calls.open.values()):
            self.calls.cancel(call)
        self.sender.flush()
        self.sender.disconnect()
        if self.transport.is_closing():
            return
        if self.sender.is_paused or not self.transport.can_write_eof():
            self.transport.close()
        else:
            self.transport.write_eof()
        self._linger = self.shared.loop.call_later(_LINGER_SECONDS, self.transport.abort)

    def _return_window(self) -> None:
        self.send_control(frames.window_update_frame(0, self.received))
        self.received = 0


def _speaks_http2(transport: asyncio.Transport) -> bool:
    tls = transport.get_extra_info("ssl_object")
    return tls is None or tls.selected_alpn_protocol() == ALPN


def _peer(transport: asyncio.Transport) -> Peer:
    name = transport.get_extra_info("peername")
    address = f"{name[0]}" if isinstance(name, tuple) else "unix"
    tls = transport.get_extra_info("ssl_object")
    return Peer(address, tls.getpeercert() or None if tls is not None else None)
