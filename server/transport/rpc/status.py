"""How a call ends: gRPC's status codes, and the error that carries one."""

from enum import IntEnum

from server.transport.rpc.metadata import Pairs, to_fields


class Code(IntEnum):
    """The status codes of gRPC (its document "Status codes and their use in gRPC")."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


class StatusError(Exception):
    """Ends a call with a status. `details` is a serialised google.rpc.Status, or empty.

    `metadata` is sent with the status: names in lower case, values text, or bytes for names that end in "-bin".
    Raises ValueError for a code that gRPC has not, and for metadata that may not be sent.
    """

    def __init__(
        self,
        code: int,
        message: str = "",
        details: bytes = b"",
        metadata: Pairs = (),
    ) -> None:
        to_fields(metadata)
        super().__init__(f"{Code(code).name}: {message}")
        self.code = Code(code)
        self.message = message
        self.details = details
        self.metadata = metadata


class TooLargeError(StatusError):
    """A message is larger than the server takes."""
