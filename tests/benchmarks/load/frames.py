"""HTTP/2 frames (RFC 9113) and the statuses of gRPC, as far as one client with unary calls needs them."""

import struct
from collections.abc import Callable

DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 3, 4, 6, 7, 8, 9
END_STREAM, ACK, END_HEADERS, PADDED, PRIORITY = 0x1, 0x1, 0x4, 0x8, 0x20
HEADER_TABLE_SIZE, ENABLE_PUSH, MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE = 1, 2, 3, 4, 5
REFUSED_STREAM, CANCEL = 7, 8  # error codes
WINDOW = 65_535  # how much either side may send before the other allows more
MOST_WINDOW = 2**31 - 1
HEAD = struct.Struct(">IBI")  # length << 8 | type, flags, stream
PREFIX = struct.Struct(">BI")  # of a gRPC message: compressed, length
NUMBER = struct.Struct(">I")
SETTING = struct.Struct(">HI")

OK, CANCELLED, UNKNOWN, DEADLINE_EXCEEDED, INTERNAL, UNAVAILABLE = 0, 1, 2, 4, 13, 14
# https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md#errors
BY_RESET = {CANCEL: CANCELLED, 11: 8, 12: 7}  # else INTERNAL
# https://github.com/grpc/grpc/blob/master/doc/http-grpc-status-mapping.md
BY_HTTP = {b"400": INTERNAL, b"401": 16, b"403": 7, b"404": 12} | dict.fromkeys(
    (b"429", b"502", b"503", b"504"), UNAVAILABLE
)  # else UNKNOWN


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """Return one frame."""
    return HEAD.pack(len(payload) << 8 | kind, flags, stream) + payload


def greeting() -> bytes:
    """Return the client's first bytes. They allow answers of any length."""
    settings = SETTING.pack(ENABLE_PUSH, 0) + SETTING.pack(INITIAL_WINDOW_SIZE, MOST_WINDOW)
    return (
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
        + frame(SETTINGS, 0, 0, settings)
        + frame(WINDOW_UPDATE, 0, 0, NUMBER.pack(MOST_WINDOW - WINDOW))
    )


def request_packer(block: bytes) -> Callable[[int, int], bytes]:
    """Return a function (stream, message length) → the frames of a request up to its message, with these headers."""
    pack = struct.Struct(f">5sI{len(block)}sIBIxI").pack
    headers = NUMBER.pack(len(block) << 8 | HEADERS) + bytes([END_HEADERS])
    data = DATA | PREFIX.size << 8
    return lambda stream, length: pack(headers, stream, block, data + (length << 8), END_STREAM, stream, length)
