"""The settings and limits of a server, in one frozen object."""

import ssl
from collections.abc import Callable
from dataclasses import dataclass, field

from server.transport.rpc.status import Code, StatusError

_MIB = 1024 * 1024
_SMALLEST_MESSAGE_LIMIT = 16 * 1024
_LARGEST_WINDOW = 2**31 - 1


def _ignore(_path: str, _code: Code) -> None:
    """Observe nothing."""


@dataclass(frozen=True)
class Options:
    """Limits of a server. Sizes are bytes, times are seconds."""

    # Connections
    most_connections: int = 10_000
    most_connections_a_source: int = 1_000  # of one IPv4 address or one /64 of IPv6; unix sockets are one source
    handshake_seconds: float = 10.0  # until a new connection has sent its first SETTINGS
    idle_seconds: float = 300.0  # without a call, until a connection is ended
    connection_age: float | None = None  # until a connection is ended, some a tenth earlier or later
    age_grace: float = 30.0  # for the calls of such a connection
    keepalive_seconds: float = 60.0  # of silence, until the server sends a PING
    keepalive_timeout: float = 20.0  # until that PING must be answered

    # Calls
    most_streams: int = 256  # of one connection at once
    most_waiting: int = 1_024  # calls of all connections at once that handlers have not answered
    message_limit: int = 4 * _MIB  # of one message, also once inflated
    header_list_limit: int = 16 * 1024
    compress_from: int = 1_024  # smaller answers are never compressed
    receive_seconds: float = 30.0  # until a message or a frame that has begun must be complete
    stall_seconds: float = 30.0  # without progress, until a client that does not read is given up

    # Memory
    connection_window: int = 4 * _MIB  # what a client may send on a connection before it is acknowledged
    stream_window: int = 256 * 1024
    most_pending: int = 512 * 1024  # of answers a client has not read, until its further calls are held back
    most_pending_ever: int = 4 * _MIB  # the same, until answers to calls that had begun before are dropped
    most_buffered: int = 8 * _MIB  # of incomplete or unread messages, of one connection
    most_buffered_in_all: int = 256 * _MIB  # the same, of all connections

    # Frames that are no use: a bucket of tokens, and how fast it fills
    control_burst: int = 2_000
    control_per_second: float = 200.0
    reset_burst: int = 1_000
    reset_per_second: float = 100.0

    # Says more of a status that the transport itself gives to a call, such as one for a message that is too large
    describe: Callable[[StatusError], StatusError] = lambda error: error
    tls: ssl.SSLContext | None = field(default=None, repr=False)
    authorise_by: frozenset[str] = frozenset({"authorization"})  # the metadata that the authorisation hook sees
    observe_refusal: Callable[[str, Code], object] = _ignore  # is told the path and the code of each refused call
    sweep_seconds: float = 1.0  # between two looks for what is late or idle

    def __post_init__(self) -> None:
        """Refuse what the transport could not keep. Raises ValueError."""
        if self.message_limit < _SMALLEST_MESSAGE_LIMIT:
            raise ValueError(f"message_limit must be at least {_SMALLEST_MESSAGE_LIMIT}")
        if not self.stream_window <= self.connection_window <= _LARGEST_WINDOW:
            raise ValueError("stream_window must not exceed connection_window, nor that 2 GiB")
        if self.message_limit > self.most_buffered:
            raise ValueError("most_buffered must be at least message_limit")
