"""What header fields may be in a request (RFC 9113 §8.2 and §8.3), and what gRPC's own fields say."""

import re
from collections.abc import Sequence
from typing import Final, NamedTuple

from server.transport.http2.field_table import Field
from server.transport.http2.frames import ErrorCode, StreamError

_PSEUDO: Final = frozenset({b":method", b":scheme", b":path", b":authority"})
_HOP_BY_HOP: Final = frozenset({b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"})
_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9a-z-]+")
_FORBIDDEN_BYTES = b"\0\r\n"
_MOST_DIGITS = 8  # of a timeout
_SECONDS = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}
_CONTENT_TYPES = frozenset({b"application/grpc", b"application/grpc+proto"})

# A field with one of these names changes how a request is understood; of all others, only the value matters.
DECISIVE: Final = frozenset(
    {*_PSEUDO, *_HOP_BY_HOP, b"te", b"content-type", b"content-length", b"grpc-encoding", b"grpc-accept-encoding"}
)
TIMEOUT: Final = b"grpc-timeout"


class Head(NamedTuple):
    """The fields of a request that the protocol itself acts on."""

    path: bytes
    method: bytes
    content_type: bytes
    content_length: int | None
    encoding: bytes | None
    accepted_encodings: bytes
    timeout: bytes | None


def read_head(fields: Sequence[Field]) -> Head:
    """Check the fields of a request. Raises StreamError if it is malformed."""
    head: dict[bytes, bytes] = {}
    after_pseudo = False
    for name, value in fields:
        if name[:1] == b":":
            if after_pseudo or name in head or name not in _PSEUDO:
                raise StreamError(ErrorCode.PROTOCOL_ERROR)
        else:
            after_pseudo = True
            _check_name(name, value)
        check_value(value)
        head[name] = value
    if not head.get(b":path") or not head.get(b":scheme") or not head.get(b":method"):
        raise StreamError(ErrorCode.PROTOCOL_ERROR)
    return Head(
        head[b":path"],
        head[b":method"],
        head.get(b"content-type", b""),
        _content_length(head.get(b"content-length")),
        head.get(b"grpc-encoding"),
        head.get(b"grpc-accept-encoding", b""),
        head.get(TIMEOUT),
    )


def check_trailers(fields: Sequence[Field]) -> None:
    """Check the fields that end a request. Raises StreamError."""
    for name, value in fields:
        if name[:1] == b":":
            raise StreamError(ErrorCode.PROTOCOL_ERROR)
        _check_name(name, value)
        check_value(value)


def _check_name(name: bytes, value: bytes) -> None:
    if not _NAME.fullmatch(name) or name in _HOP_BY_HOP or (name == b"te" and value != b"trailers"):
        raise StreamError(ErrorCode.PROTOCOL_ERROR)


def check_value(value: bytes) -> None:
    """Check the value of any field. Raises StreamError."""
    if len(value.translate(None, _FORBIDDEN_BYTES).strip()) != len(value):
        raise StreamError(ErrorCode.PROTOCOL_ERROR)


def _content_length(value: bytes | None) -> int | None:
    if value is None:
        return None
    if not value.isdigit():
        raise StreamError(ErrorCode.PROTOCOL_ERROR)
    return int(value[:20])


def is_grpc(content_type: bytes) -> bool:
    """Return whether a content type is gRPC with messages of protobuf."""
    return content_type.partition(b";")[0].strip().lower() in _CONTENT_TYPES


def read_timeout(value: bytes) -> float | None:
    """Return the seconds of a "grpc-timeout", or nothing if it is malformed."""
    digits, unit = value[:-1], _SECONDS.get(value[-1:])
    if unit is None or not digits.isdigit() or len(digits) > _MOST_DIGITS:
        return None
    return int(digits) * unit


def accepts(encodings: bytes, encoding: bytes) -> bool:
    """Return whether a "grpc-accept-encoding" has an encoding."""
    return encoding in (part.strip() for part in encodings.split(b","))
