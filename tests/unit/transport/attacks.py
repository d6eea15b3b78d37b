"""What hostile peers send, as chunks of bytes that come after a legal greeting."""

from collections.abc import Callable, Iterator

from hpack import Encoder

from server.transport.http2 import frames
from server.transport.rpc import messages
from tests.unit.transport.support import HEADERS

Attack = Callable[[], Iterator[bytes]]
_ROUNDS = 6_000
LATER, LARGE = "/test.Test/Later", "/test.Test/Large"  # answers never; answers so many bytes
_STREAMS = range(1, 2 * _ROUNDS, 2)


def _head(stream_id: int, encoder: Encoder, *, flags: int = frames.END_HEADERS) -> bytes:
    return frames.frame(frames.HEADERS, flags, stream_id, encoder.encode(HEADERS))


def _call(stream_id: int, encoder: Encoder, message: bytes) -> bytes:
    return _head(stream_id, encoder) + frames.frame(frames.DATA, frames.END_STREAM, stream_id, messages.pack(message))


def continuations_without_end() -> Iterator[bytes]:
    yield _head(1, Encoder(), flags=0)
    for _ in range(_ROUNDS):
        yield frames.frame(frames.CONTINUATION, 0, 1, b"\x00\x01x\x01y" * 100)


def empty_continuations() -> Iterator[bytes]:
    yield _head(1, Encoder(), flags=0)
    for _ in range(_ROUNDS):
        yield frames.frame(frames.CONTINUATION, 0, 1)


def settings() -> Iterator[bytes]:
    for k in range(_ROUNDS):
        yield frames.settings_frame({0x4: 65_535 + k % 2})


def pings() -> Iterator[bytes]:
    for _ in range(_ROUNDS):
        yield frames.ping_frame(b"12345678", ack=False)


def priorities() -> Iterator[bytes]:
    for _ in range(_ROUNDS):
        yield frames.frame(frames.PRIORITY, 0, 1, b"\0\0\0\3\1")


def window_updates() -> Iterator[bytes]:
    yield _head(1, Encoder())
    for k in range(_ROUNDS):
        yield frames.window_update_frame(k % 2, 1)


def unknown_frames() -> Iterator[bytes]:
    for _ in range(_ROUNDS):
        yield frames.frame(0x77, 0xFF, 9, b"?" * 100)


def empty_data() -> Iterator[bytes]:
    yield _head(1, Encoder())
    for _ in range(_ROUNDS):
        yield frames.frame(frames.DATA, 0, 1)


def rapid_resets() -> Iterator[bytes]:
    encoder = Encoder()
    for stream_id in _STREAMS:
        yield _head(stream_id, encoder) + frames.reset_frame(stream_id, frames.ErrorCode.CANCEL)


def rapid_resets_of_calls_under_way() -> Iterator[bytes]:
    encoder = Encoder()
    later = [(name, LATER if name == ":path" else value) for name, value in HEADERS]
    for stream_id in _STREAMS:
        yield (
            frames.frame(frames.HEADERS, frames.END_HEADERS, stream_id, encoder.encode(later))
            + frames.frame(frames.DATA, frames.END_STREAM, stream_id, messages.pack(b"x"))
            + frames.reset_frame(stream_id, frames.ErrorCode.CANCEL)
        )


def frames_of_closed_streams() -> Iterator[bytes]:
    yield _call(1, Encoder(), b"")
    for _ in range(_ROUNDS):
        yield frames.frame(frames.DATA, 0, 1, b"x")


def headers_that_refer_to_a_large_field() -> Iterator[bytes]:
    encoder = Encoder()
    yield frames.frame(frames.HEADERS, frames.END_HEADERS, 1, encoder.encode([*HEADERS, ("x", "y" * 3800)]))
    for stream_id in range(3, 200, 2):
        yield frames.frame(frames.HEADERS, frames.END_HEADERS, stream_id, b"\xbe" * 16_000)


def headers_that_never_repeat() -> Iterator[bytes]:
    encoder = Encoder()
    for stream_id in range(1, 200, 2):
        extra = [(f"x-{stream_id}-{k}", "y" * 100) for k in range(100)]
        head = frames.frame(frames.HEADERS, frames.END_HEADERS, stream_id, encoder.encode([*HEADERS, *extra]))
        yield head + frames.frame(frames.DATA, frames.END_STREAM, stream_id, messages.pack(b""))


def paths_that_never_repeat() -> Iterator[bytes]:
    for stream_id in range(1, 1_000, 2):
        headers = [(name, f"/x/{stream_id}" * 100 if name == ":path" else value) for name, value in HEADERS]
        yield frames.frame(frames.HEADERS, frames.END_HEADERS | frames.END_STREAM, stream_id, Encoder().encode(headers))


def answers_that_nobody_reads() -> Iterator[bytes]:
    encoder = Encoder()
    yield frames.settings_frame({0x4: 0})
    large = [(name, LARGE if name == ":path" else value) for name, value in HEADERS]
    for stream_id in _STREAMS:
        head = frames.frame(frames.HEADERS, frames.END_HEADERS, stream_id, encoder.encode(large))
        yield head + frames.frame(frames.DATA, frames.END_STREAM, stream_id, messages.pack(b"8000"))


def answers_read_a_byte_at_a_time() -> Iterator[bytes]:
    yield frames.settings_frame({0x4: 1})
    yield _call(1, Encoder(), b"m" * 8_000)
    for _ in range(_ROUNDS):
        yield frames.window_update_frame(1, 1)


def streams_without_messages() -> Iterator[bytes]:
    encoder = Encoder()
    for stream_id in _STREAMS:
        yield _head(stream_id, encoder)


ATTACKS: tuple[Attack, ...] = (
    continuations_without_end,
    empty_continuations,
    settings,
    pings,
    priorities,
    window_updates,
    unknown_frames,
    empty_data,
    rapid_resets,
    rapid_resets_of_calls_under_way,
    frames_of_closed_streams,
    headers_that_refer_to_a_large_field,
    headers_that_never_repeat,
    paths_that_never_repeat,
    answers_that_nobody_reads,
    answers_read_a_byte_at_a_time,
    streams_without_messages,
)
# Each frame of these costs us something, so that the connection must end. The others are bounded in what they keep.
FLOODS = (*ATTACKS[:11], answers_read_a_byte_at_a_time, streams_without_messages)
