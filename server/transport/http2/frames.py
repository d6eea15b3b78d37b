"""Frames of HTTP/2 (RFC 9113 §4 and §6): their numbers and their bytes. No state, no I/O."""

from collections.abc import Mapping
from enum import IntEnum
from struct import Struct
from typing import Final

DATA: Final = 0x0
HEADERS: Final = 0x1
PRIORITY: Final = 0x2
RST_STREAM: Final = 0x3
SETTINGS: Final = 0x4
PUSH_PROMISE: Final = 0x5
PING: Final = 0x6
GOAWAY: Final = 0x7
WINDOW_UPDATE: Final = 0x8
CONTINUATION: Final = 0x9

NO_FLAGS: Final = 0x0
END_STREAM: Final = 0x1
ACK: Final = 0x1
END_HEADERS: Final = 0x4
PADDED: Final = 0x8
HAS_PRIORITY: Final = 0x20

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEAD_SIZE: Final = 9
DEFAULT_FRAME_SIZE: Final = 16_384
DEFAULT_WINDOW: Final = 65_535
LARGEST_WINDOW: Final = 2**31 - 1
LARGEST_STREAM: Final = 2**31 - 1

# Length and type share the first number: three bytes and one.
HEAD: Final = Struct(">IBI")
NUMBER: Final = Struct(">I")
_SETTING = Struct(">HI")
_PRIORITY_SIZE = 5


class ErrorCode(IntEnum):
    """Why a stream or a connection ends (RFC 9113 §7)."""

    NO_ERROR = 0x0
    PROTOCOL_ERROR = 0x1
    INTERNAL_ERROR = 0x2
    FLOW_CONTROL_ERROR = 0x3
    SETTINGS_TIMEOUT = 0x4
    STREAM_CLOSED = 0x5
    FRAME_SIZE_ERROR = 0x6
    REFUSED_STREAM = 0x7
    CANCEL = 0x8
    COMPRESSION_ERROR = 0x9
    ENHANCE_YOUR_CALM = 0xB


class PeerError(Exception):
    """The peer broke the protocol, or a limit, in a way that ends the connection."""

    def __init__(self, code: ErrorCode, reason: str) -> None:
        super().__init__(f"{code.name}: {reason}")
        self.code = code
        self.reason = reason


class StreamError(Exception):
    """The peer broke the protocol in a way that ends one stream."""

    def __init__(self, code: ErrorCode) -> None:
        super().__init__(code.name)
        self.code = code


def frame(kind: int, flags: int, stream_id: int, payload: bytes = b"") -> bytes:
    """Return the bytes of one frame."""
    return HEAD.pack(len(payload) << 8 | kind, flags, stream_id) + payload


def headers_frames(stream_id: int, flags: int, block: bytes, frame_size: int) -> bytes:
    """Return a block of header fields as HEADERS, and as many CONTINUATIONs as the peer's frame size makes it need."""
    if len(block) <= frame_size:
        return frame(HEADERS, flags | END_HEADERS, stream_id, block)
    frames = [frame(HEADERS, flags, stream_id, block[:frame_size])]
    for begin in range(frame_size, len(block), frame_size):
        is_last = begin + frame_size >= len(block)
        piece = block[begin : begin + frame_size]
        frames.append(frame(CONTINUATION, END_HEADERS if is_last else NO_FLAGS, stream_id, piece))
    return b"".join(frames)


def settings_frame(settings: Mapping[int, int]) -> bytes:
    """Return a SETTINGS frame."""
    return frame(SETTINGS, NO_FLAGS, 0, b"".join(_SETTING.pack(name, value) for name, value in settings.items()))


def settings_ack() -> bytes:
    """Return the acknowledgement of the peer's SETTINGS."""
    return frame(SETTINGS, ACK, 0)


def read_settings(payload: bytes) -> list[tuple[int, int]]:
    """Return the settings of a payload in their order. Raises PeerError if its length is not a multiple of 6."""
    if len(payload) % _SETTING.size:
        raise PeerError(ErrorCode.FRAME_SIZE_ERROR, "length of SETTINGS")
    return list(_SETTING.iter_unpack(payload))


def ping_frame(payload: bytes, *, ack: bool) -> bytes:
    """Return a PING with 8 bytes of the sender's choice, or the acknowledgement of one."""
    return frame(PING, ACK if ack else NO_FLAGS, 0, payload)


def goaway_frame(last_stream: int, code: ErrorCode, reason: str = "") -> bytes:
    """Return a GOAWAY: streams after `last_stream` are not, and will not be, processed."""
    return frame(GOAWAY, NO_FLAGS, 0, NUMBER.pack(last_stream) + NUMBER.pack(code) + reason.encode())


def reset_frame(stream_id: int, code: ErrorCode) -> bytes:
    """Return a RST_STREAM."""
    return frame(RST_STREAM, NO_FLAGS, stream_id, NUMBER.pack(code))


def window_update_frame(stream_id: int, increment: int) -> bytes:
    """Return a WINDOW_UPDATE for a stream, or for the connection (stream 0)."""
    return frame(WINDOW_UPDATE, NO_FLAGS, stream_id, NUMBER.pack(increment))


def read_number(payload: bytes, name: str) -> int:
    """Return the 32-bit number that is the whole payload. Raises PeerError for any other length."""
    if len(payload) != NUMBER.size:
        raise PeerError(ErrorCode.FRAME_SIZE_ERROR, f"length of {name}")
    number: int = NUMBER.unpack(payload)[0]
    return number


def without_padding(flags: int, payload: bytes) -> bytes:
    """Return the payload of DATA or HEADERS without its padding (RFC 9113 §6.1)."""
    if not flags & PADDED:
        return payload
    if not payload or payload[0] >= len(payload):
        raise PeerError(ErrorCode.PROTOCOL_ERROR, "padding")
    return payload[1 : len(payload) - payload[0]]


def without_priority(flags: int, stream_id: int, payload: bytes) -> bytes:
    """Return the payload of HEADERS, already without padding, without its priority (RFC 9113 §6.2)."""
    if not flags & HAS_PRIORITY:
        return payload
    if len(payload) < _PRIORITY_SIZE:
        raise PeerError(ErrorCode.FRAME_SIZE_ERROR, "length of a priority")
    if depends_on(payload) == stream_id:
        raise PeerError(ErrorCode.PROTOCOL_ERROR, "a stream depends on itself")
    return payload[_PRIORITY_SIZE:]


def check_priority(stream_id: int, payload: bytes) -> None:
    """Check a PRIORITY frame, whose content is ignored. Raises StreamError."""
    if len(payload) != _PRIORITY_SIZE:
        raise StreamError(ErrorCode.FRAME_SIZE_ERROR)
    if depends_on(payload) == stream_id:
        raise StreamError(ErrorCode.PROTOCOL_ERROR)


def depends_on(payload: bytes) -> int:
    """Return the stream that a priority names."""
    number: int = NUMBER.unpack_from(payload)[0]
    return number & LARGEST_STREAM
