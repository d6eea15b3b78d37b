"""What clients send in one connection: legal frames of all kinds, from which the mutator begins."""

import random
from collections.abc import Callable, Sequence
from typing import NamedTuple

from hpack import Encoder

from server.transport.http2 import frames
from server.transport.http2.frames import ErrorCode
from server.transport.rpc import messages
from tests.benchmarks.serving.frames.target import PATHS

_TABLE_SIZE, _INITIAL_WINDOW, _MAX_FRAME_SIZE = 0x1, 0x4, 0x5
_WINDOWS = 0, 1, 100, 65_535, 1_000_000


class Frame(NamedTuple):
    """A frame, whose parts may be changed."""

    kind: int
    flags: int
    stream_id: int
    payload: bytes

    def pack(self) -> bytes:
        """Return its bytes."""
        return frames.frame(self.kind, self.flags, self.stream_id, self.payload)


class Recorder:
    """Writes the frames of one client. Streams and the table of headers go on from call to call."""

    def __init__(self, draw: random.Random) -> None:
        self._draw = draw
        self._encoder = Encoder()
        self._next_id = 1
        self._open = [1]
        self._acts: Sequence[Callable[[], list[Frame]]] = (
            *[self._usual_call] * 6,
            *[self._call_in_pieces] * 3,
            self._opened,
            self._reset,
            self._settings,
            self._window,
            self._ping,
            self._priority,
        )

    def record(self, acts: int) -> list[Frame]:
        """Return the frames of some acts."""
        return [frame for _ in range(acts) for frame in self._draw.choice(self._acts)()]

    def _headers(self, *, ends: bool = False) -> list[Frame]:
        draw = self._draw
        stream_id, self._next_id = self._next_id, self._next_id + 2
        self._open = [*self._open[-5:], stream_id]
        fields = [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", draw.choice(PATHS)),
            (":authority", "test"),
            ("te", "trailers"),
            ("content-type", draw.choice(["application/grpc"] * 8 + ["application/grpc+proto", "text/plain"])),
        ]
        optional = [
            ("grpc-timeout", draw.choice(["1H", f"{stream_id}S", "1n", "wrong"])),
            ("grpc-encoding", draw.choice(["gzip", "identity", "other"])),
            ("grpc-accept-encoding", "gzip"),
            ("authorization", draw.choice(["good", "bad", "slow"])),
            ("traceparent", f"{draw.getrandbits(64):x}"),
            ("x-data-bin", draw.choice(["AAEC", "AAE=,", "?", ""])),
            ("x-long", "a" * draw.choice([10, 300, 5_000])),
        ]
        fields += draw.sample(optional, draw.choice([0, 0, 1, 2, 4]))
        block = self._encoder.encode(fields, huffman=draw.random() < 0.8)
        flags = frames.END_STREAM if ends else 0
        shape = draw.random()
        if shape < 0.8:
            return [Frame(frames.HEADERS, flags | frames.END_HEADERS, stream_id, block)]
        if shape < 0.9:
            priority = frames.NUMBER.pack(0) + b"\x10"
            flags |= frames.PADDED | frames.HAS_PRIORITY | frames.END_HEADERS
            return [Frame(frames.HEADERS, flags, stream_id, b"\x03" + priority + block + bytes(3))]
        cut = draw.randrange(len(block))
        return [
            Frame(frames.HEADERS, flags, stream_id, block[:cut]),
            Frame(frames.CONTINUATION, frames.END_HEADERS, stream_id, block[cut:]),
        ]

    def _body(self) -> bytes:
        draw = self._draw
        message = draw.randbytes(draw.choice([0, 1, 5, 40])) or b"z" * draw.choice([0, 1_000, 10_000])
        return messages.pack_compressed(message) if draw.random() < 0.1 else messages.pack(message)

    def _usual_call(self) -> list[Frame]:
        headers = self._headers()
        return [*headers, Frame(frames.DATA, frames.END_STREAM, headers[0].stream_id, self._body())]

    def _call_in_pieces(self) -> list[Frame]:
        draw = self._draw
        sent = self._headers()
        stream_id = sent[0].stream_id
        body = b"".join(self._body() for _ in range(draw.choice([1, 1, 3])))
        cut = draw.randrange(len(body))
        sent.append(Frame(frames.DATA, 0, stream_id, body[:cut]))
        sent.append(Frame(frames.DATA, frames.PADDED, stream_id, b"\x05" + body[cut:] + bytes(5)))
        if draw.random() < 0.5:
            sent.append(Frame(frames.DATA, frames.END_STREAM, stream_id, b""))
        else:
            trailers = self._encoder.encode([("x-trailer", "1")])
            sent.append(Frame(frames.HEADERS, frames.END_HEADERS | frames.END_STREAM, stream_id, trailers))
        return sent

    def _opened(self) -> list[Frame]:
        return self._headers(ends=self._draw.random() < 0.3)

    def _reset(self) -> list[Frame]:
        if self._next_id == 1:
            return []
        code = self._draw.choice([ErrorCode.CANCEL, ErrorCode.NO_ERROR])
        return [Frame(frames.RST_STREAM, 0, self._draw.choice(self._open), frames.NUMBER.pack(code))]

    def _settings(self) -> list[Frame]:
        draw = self._draw
        settings = {
            _TABLE_SIZE: draw.choice([0, 100, 4_096]),
            _INITIAL_WINDOW: draw.choice(_WINDOWS),
            _MAX_FRAME_SIZE: draw.choice([16_384, 2**24 - 1]),
        }
        chosen = dict(draw.sample(sorted(settings.items()), draw.randrange(4)))
        payload = frames.settings_frame(chosen)[frames.HEAD_SIZE :]
        return [Frame(frames.SETTINGS, 0, 0, payload), Frame(frames.SETTINGS, frames.ACK, 0, b"")]

    def _window(self) -> list[Frame]:
        stream_id = self._draw.choice([0, *self._open]) if self._next_id > 1 else 0
        return [Frame(frames.WINDOW_UPDATE, 0, stream_id, frames.NUMBER.pack(self._draw.choice(_WINDOWS[1:])))]

    def _ping(self) -> list[Frame]:
        return [
            Frame(frames.PING, self._draw.choice([0, frames.ACK]), 0, self._draw.choice([b"12345678", b"draining"]))
        ]

    def _priority(self) -> list[Frame]:
        return [Frame(frames.PRIORITY, 0, self._next_id, frames.NUMBER.pack(0) + b"\x10")]
