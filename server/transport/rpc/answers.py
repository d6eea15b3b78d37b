"""The header fields of answers: the usual ones, and those of calls that end with an error."""

from typing import Final, NamedTuple

from server.transport.http2.field_table import Field
from server.transport.http2.response_encoder import ResponseEncoder, literals
from server.transport.rpc import messages
from server.transport.rpc.metadata import Pairs, base64, percent_encode, to_fields
from server.transport.rpc.status import Code, StatusError

_STATUS_200: Final = (b":status", b"200")
_CONTENT_TYPE: Final = (b"content-type", b"application/grpc")
_ACCEPTED: Final = (b"grpc-accept-encoding", messages.ACCEPTED)
_OK: Final = (b"grpc-status", b"0")
GZIP: Final = (b"grpc-encoding", messages.GZIP)

# Clients may refuse trailers of more than 8 KiB, and then see another error than ours.
_LONGEST_MESSAGE = 1024
_LONGEST_DETAILS = 4096


class Refusal(NamedTuple):
    """A whole answer that is the same for all calls with the same headers.

    Answers of gRPC have a code and no body.
    """

    block: bytes
    code: Code | None
    body: bytes = b""


def new_encoder() -> ResponseEncoder:
    """Return the encoder of a connection's answers."""
    return ResponseEncoder(_STATUS_200, (_CONTENT_TYPE, _ACCEPTED), _OK)


def status_fields(error: StatusError) -> list[Field]:
    """Return the fields that tell a status."""
    fields = [(b"grpc-status", b"%d" % error.code)]
    if error.message:
        fields.append((b"grpc-message", percent_encode(error.message[:_LONGEST_MESSAGE])))
    if 0 < len(error.details) <= _LONGEST_DETAILS:
        fields.append((b"grpc-status-details-bin", base64(error.details)))
    return fields + to_fields(error.metadata)


def error_trailers(error: StatusError, metadata: Pairs = ()) -> bytes:
    """Return the trailers of a call that fails after its answer began."""
    return literals([*status_fields(error), *to_fields(metadata)])


def ok_trailers(metadata: Pairs) -> bytes:
    """Return the trailers of a call that succeeds, and sends metadata with its status."""
    return literals([_OK, *to_fields(metadata)])


def error_only(error: StatusError, metadata: Pairs = ()) -> bytes:
    """Return the single block of a call that fails before its answer began (Trailers-Only)."""
    return literals([_STATUS_200, _CONTENT_TYPE, _ACCEPTED, *status_fields(error), *to_fields(metadata)])


def refusal(error: StatusError) -> Refusal:
    """Return the answer to calls that are refused."""
    return Refusal(error_only(error), error.code)


def _http(status: bytes, *fields: Field, text: bytes) -> Refusal:
    return Refusal(literals([(b":status", status), (b"content-type", b"text/plain"), *fields]), None, text)


NOT_GRPC: Final = _http(b"415", text=b"this port speaks gRPC: send content-type application/grpc\n")
NOT_POST: Final = _http(b"405", (b"allow", b"POST"), text=b"calls of gRPC are sent with POST\n")
HEADERS_TOO_LARGE: Final = refusal(StatusError(Code.RESOURCE_EXHAUSTED, "the call's metadata exceeds the limit"))
