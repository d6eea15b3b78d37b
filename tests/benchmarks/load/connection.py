"""One TCP connection that speaks HTTP/2, with as little work as possible for each call."""

import asyncio
from collections.abc import Callable, Iterable
from time import perf_counter
from typing import NamedTuple, Protocol

from tests.benchmarks.load import frames
from tests.benchmarks.load.headers import UNDECIDED, Answers, Requests

_DATA, _HEADERS = frames.DATA, frames.HEADERS
_PLAIN = frames.END_HEADERS | frames.PADDED | frames.PRIORITY  # plain headers have only the first of these flags
_REFILL = 2**29  # after so many bytes the server is allowed as many more


class Reply(NamedTuple):
    """The gRPC status code, the message unless it failed, and how long it took."""

    status: int
    message: bytes
    seconds: float


class Call:
    """A call under way. Times are those of perf_counter."""

    __slots__ = ("body", "deadline", "done", "message", "resent", "since", "status", "timeout")

    def __init__(
        self, message: bytes, done: Callable[[Reply], object], timeout: float | None, since: float, deadline: float
    ) -> None:
        self.message = message
        self.done = done
        self.timeout = timeout
        self.since = since
        self.deadline = deadline
        self.status = UNDECIDED
        self.body = b""
        self.resent = False

    def end(self, status: int) -> None:
        self.done(Reply(status, self.body[5:], perf_counter() - self.since))


class Owner(Protocol):
    """The owner of links. A link calls it when its state changes."""

    def send_waiting(self) -> None:
        """Send calls that waited: a link has room again."""

    def refused(self, call: Call) -> None:
        """Take back a call for which the server had no room."""

    def leave(self, link: "Link", unseen: list[Call]) -> None:
        """Handle a link that takes no more calls. The server has not processed the calls `unseen`."""

    def lost(self, link: "Link") -> None:
        """Handle a link that is gone."""


class Upload:
    """The rest of a long message, and how many bytes of it the stream's window allows."""

    __slots__ = ("rest", "window")

    def __init__(self, rest: memoryview, window: int) -> None:
        self.rest = rest
        self.window = window


class Link(asyncio.Protocol):
    """An HTTP/2 connection. It writes all frames of one loop tick together."""

    def __init__(self, owner: Owner, requests: Requests) -> None:
        loop = asyncio.get_running_loop()
        self.calls: dict[int, Call] = {}
        self.ready: asyncio.Future[None] = loop.create_future()  # done when the server has sent its settings
        self.usable = True  # until GOAWAY, or the end
        self.waiting = False  # whether the owner has calls that wait for room
        self._owner = owner
        self._requests = requests
        self._answers = Answers()
        self._call_soon = loop.call_soon
        self._uploads: dict[int, Upload] = {}
        self._stream = -1
        self._most_calls = frames.MOST_WINDOW
        self._most_frame = 16_384
        self._initial_window = self._window = frames.WINDOW
        self._room = min(self._most_frame, self._initial_window) - frames.PREFIX.size
        self._received = 0
        self._rest = self._block = b""
        self._last = False  # whether self._block holds trailers
        self._corked = False
        self._out: list[bytes] = []

    def send(self, call: Call) -> bool:
        """Send a call. Return False if the server takes no more calls for now."""
        if len(self.calls) >= self._most_calls:
            return False
        self._stream = stream = self._stream + 2
        self.calls[stream] = call
        packer = self._requests.packers.get(call.timeout) or self._requests.packer(call.timeout)
        message = call.message
        length = len(message)
        if length <= self._room and length + 5 <= self._window:
            self._window -= length + 5
            self._out.append(packer(stream, length) + message)
        else:
            self._out.append(packer(stream, length)[: -frames.HEAD.size - frames.PREFIX.size])
            whole = memoryview(frames.PREFIX.pack(0, length) + message)
            self._uploads[stream] = Upload(whole, self._initial_window)
            self._upload()
        self._flush_soon()
        return True

    def cancel(self, stream: int) -> Call:
        """Cancel a call, and tell the server."""
        self._uploads.pop(stream, None)
        self._out.append(frames.frame(frames.RST_STREAM, 0, stream, frames.NUMBER.pack(frames.CANCEL)))
        self._flush_soon()
        return self.calls.pop(stream)

    def close(self) -> None:
        self._transport.close()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # is one, if not by class
        self._transport = transport
        transport.write(frames.greeting())

    def connection_lost(self, exc: Exception | None) -> None:
        self.usable = False
        if not self.ready.done():
            self.ready.set_exception(ConnectionResetError("the server hung up"))
        self._owner.lost(self)

    def data_received(self, data: bytes) -> None:
        self._corked = True
        if self._rest:
            data = self._rest + data
        calls, statuses, split = self.calls, self._answers.statuses, frames.HEAD.unpack_from
        begin, have = 0, len(data)
        while have - begin >= 9:
            head, flags, stream = split(data, begin)
            payload = begin + 9
            end = payload + (head >> 8)
            if end > have:
                break
            kind = head & 0xFF
            if kind == _HEADERS and flags & _PLAIN == frames.END_HEADERS:
                block = data[payload:end]
                status = statuses.get(block)
                if status is None:
                    status = self._answers.status(block)
                if flags & frames.END_STREAM:
                    self._end(stream, status)
                elif status >= 0 and stream in calls:
                    calls[stream].status = status
            elif kind == _DATA and not flags:
                self._received += end - payload
                if stream in calls:
                    calls[stream].body += data[payload:end]
            else:
                self._take(kind, flags, stream, data[payload:end])
            begin = end
        self._rest = data[begin:]
        if self._received > _REFILL:
            self._out.append(frames.frame(frames.WINDOW_UPDATE, 0, 0, frames.NUMBER.pack(self._received)))
            self._received = 0
        self._flush()

    def _end(self, stream: int, status: int) -> None:
        """End a call that the server has answered."""
        call = self.calls.pop(stream, None)
        if self._uploads:
            self._uploads.pop(stream, None)
        if self.waiting:
            self._owner.send_waiting()
        if call is not None:
            if status < 0:
                status = frames.UNKNOWN if call.status < 0 else call.status
            call.end(status)

    def _take(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        """Handle a frame that is not one of the usual answers."""
        if kind == frames.WINDOW_UPDATE:
            (more,) = frames.NUMBER.unpack(payload)
            if not stream:
                self._window += more
            elif stream in self._uploads:
                self._uploads[stream].window += more
            if self._uploads:
                self._upload()
        elif kind in (frames.HEADERS, frames.CONTINUATION):
            self._take_headers(kind, flags, stream, payload)
        elif kind == frames.DATA:
            self._received += len(payload)
            if stream in self.calls:
                self.calls[stream].body += _unpadded(payload) if flags & frames.PADDED else payload
            if flags & frames.END_STREAM:
                self._end(stream, UNDECIDED)
        elif kind == frames.SETTINGS and not flags & frames.ACK:
            self._take_settings(frames.SETTING.iter_unpack(payload))
        elif kind == frames.PING and not flags & frames.ACK:
            self._out.append(frames.frame(frames.PING, frames.ACK, 0, payload))
        elif kind == frames.RST_STREAM:
            (code,) = frames.NUMBER.unpack(payload)
            if code == frames.REFUSED_STREAM and stream in self.calls:
                self._uploads.pop(stream, None)
                self._owner.refused(self.calls.pop(stream))
            else:
                self._end(stream, frames.BY_RESET.get(code, frames.INTERNAL))
        elif kind == frames.GOAWAY:
            self.usable = False
            (last,) = frames.NUMBER.unpack_from(payload)
            unseen = [stream for stream in self.calls if stream > last]
            for stream in unseen:
                self._uploads.pop(stream, None)
            self._owner.leave(self, [self.calls.pop(stream) for stream in unseen])

    def _take_headers(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        """Handle headers with padding or priority, or in several frames, as if they were plain."""
        if kind == frames.HEADERS:
            if flags & frames.PADDED:
                payload = _unpadded(payload)
            self._block, self._last = payload[5 if flags & frames.PRIORITY else 0 :], bool(flags & frames.END_STREAM)
        else:
            self._block += payload
        if flags & frames.END_HEADERS:
            status = self._answers.status(self._block)
            if self._last:
                self._end(stream, status)
            elif status >= 0 and stream in self.calls:
                self.calls[stream].status = status

    def _take_settings(self, settings: Iterable[tuple[int, int]]) -> None:
        for name, value in settings:
            if name == frames.HEADER_TABLE_SIZE:
                self._requests.encoder.header_table_size = min(value, 4096)
                self._requests.packers.clear()
            elif name == frames.MAX_CONCURRENT_STREAMS:
                self._most_calls = value
            elif name == frames.MAX_FRAME_SIZE:
                self._most_frame = value
            elif name == frames.INITIAL_WINDOW_SIZE:
                for upload in self._uploads.values():
                    upload.window += value - self._initial_window
                self._initial_window = value
        self._room = min(self._most_frame, self._initial_window) - frames.PREFIX.size
        self._out.append(frames.frame(frames.SETTINGS, frames.ACK, 0, b""))
        self._upload()
        if not self.ready.done():
            self.ready.set_result(None)
        if self.waiting:
            self._owner.send_waiting()

    def _upload(self) -> None:
        """Send as much of the messages as the windows allow."""
        for stream, upload in list(self._uploads.items()):
            while (room := min(self._window, upload.window, self._most_frame)) > 0:
                piece, upload.rest = upload.rest[:room], upload.rest[room:]
                self._window -= len(piece)
                upload.window -= len(piece)
                last = not upload.rest
                self._out.append(frames.frame(frames.DATA, frames.END_STREAM if last else 0, stream, bytes(piece)))
                if last:
                    del self._uploads[stream]
                    break

    def _flush_soon(self) -> None:
        if not self._corked:
            self._corked = True
            self._call_soon(self._flush)

    def _flush(self) -> None:
        self._corked = False
        if self._out:
            self._transport.write(b"".join(self._out))
            self._out.clear()


def _unpadded(payload: bytes) -> bytes:
    return payload[1 : len(payload) - payload[0]]
