"""A connection without a socket, and the frames to talk to it."""

import asyncio
from collections.abc import Mapping
from typing import Any, NamedTuple

from hpack import Decoder, Encoder

from server.transport import Method, Options, immediate
from server.transport.connection import Connection
from server.transport.http2 import frames
from server.transport.rpc import messages
from server.transport.rpc.request import Authorise
from server.transport.shared import Shared

ECHO = "/test.Test/Echo"
HEADERS = (
    (":method", "POST"),
    (":scheme", "http"),
    (":path", ECHO),
    (":authority", "test"),
    ("te", "trailers"),
    ("content-type", "application/grpc"),
)


class Frame(NamedTuple):
    kind: int
    flags: int
    stream_id: int
    payload: bytes


class FakeTransport:
    """Keeps what is written. Set `is_full` to let the connection believe that nobody reads."""

    def __init__(self) -> None:
        self.written = b""
        self.closed = self.reads = False
        self.reads = True
        self.info: Mapping[str, Any] = {"peername": ("127.0.0.1", 1)}

    def write(self, data: bytes) -> None:
        assert not self.closed
        self.written += data

    def get_extra_info(self, name: str) -> Any:
        return self.info.get(name)

    def is_closing(self) -> bool:
        return self.closed

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.closed = True

    def close(self) -> None:
        self.closed = True

    abort = close

    def pause_reading(self) -> None:
        self.reads = False

    def resume_reading(self) -> None:
        self.reads = True

    def get_write_buffer_size(self) -> int:
        return 0


class Client:
    """A client of one connection, on the level of frames."""

    def __init__(
        self,
        methods: Mapping[str, Method] | None = None,
        options: Options | None = None,
        authorise: Authorise | None = None,
    ) -> None:
        self.failures: list[tuple[str, Exception]] = []
        self.shared = Shared(
            methods if methods is not None else {ECHO: immediate(lambda _, message: message)},
            options or Options(),
            authorise,
            lambda path, error: self.failures.append((path, error)),
        )
        self.transport = FakeTransport()
        self.connection = Connection(self.shared, lambda _: True, lambda _: None)
        self.connection.connection_made(self.transport)  # type: ignore[arg-type]
        self.encoder, self.decoder = Encoder(), Decoder()
        self.next_id = 1

    def greet(self, settings: Mapping[int, int] | None = None) -> None:
        self.send(frames.PREFACE + frames.settings_frame(settings or {}))
        self.read()

    def send(self, data: bytes) -> None:
        self.connection.data_received(data)

    def begin(self, *extra: tuple[str, str], ends: bool = False, headers: Any = HEADERS) -> int:
        """Send the headers of a call, and return its stream."""
        stream_id, self.next_id = self.next_id, self.next_id + 2
        flags = frames.END_HEADERS | (frames.END_STREAM if ends else 0)
        self.send(frames.frame(frames.HEADERS, flags, stream_id, self.encoder.encode([*headers, *extra])))
        return stream_id

    def data(self, stream_id: int, payload: bytes, *, ends: bool = True) -> None:
        self.send(frames.frame(frames.DATA, frames.END_STREAM if ends else 0, stream_id, payload))

    def call(self, message: bytes = b"hello", *extra: tuple[str, str]) -> int:
        stream_id = self.begin(*extra)
        self.data(stream_id, messages.pack(message))
        return stream_id

    def read(self) -> list[Frame]:
        """Return the frames that came since the last time."""
        data, self.transport.written = self.transport.written, b""
        found = []
        while data:
            head, flags, stream_id = frames.HEAD.unpack_from(data)
            end = 9 + (head >> 8)
            found.append(Frame(head & 0xFF, flags, stream_id, data[9:end]))
            data = data[end:]
        return found

    def answers(self) -> dict[int, tuple[dict[str, str], bytes]]:
        """Return fields and body of the answers that came since the last time, by stream. All must be complete."""
        answers: dict[int, tuple[dict[str, str], bytes]] = {}
        ended = set()
        for frame in self.read():
            fields, body = answers.get(frame.stream_id, ({}, b""))
            if frame.kind == frames.HEADERS:
                fields.update(self.decoder.decode(frame.payload))
            elif frame.kind == frames.DATA:
                body += frame.payload
            elif frame.kind == frames.RST_STREAM:
                fields["reset"] = str(frames.NUMBER.unpack(frame.payload)[0])
                ended.add(frame.stream_id)
            else:
                continue
            if frame.kind in (frames.HEADERS, frames.DATA) and frame.flags & frames.END_STREAM:
                ended.add(frame.stream_id)
            answers[frame.stream_id] = fields, body
        assert ended == set(answers)
        return answers

    def status(self) -> str:
        """Return the status of the only call that was answered."""
        ((fields, _),) = self.answers().values()
        return fields["grpc-status"]


async def turn() -> None:
    """Let the event loop do what is due."""
    for _ in range(5):
        await asyncio.sleep(0)
