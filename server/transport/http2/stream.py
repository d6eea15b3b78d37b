"""The state of one stream that the windows need (RFC 9113 §5.2)."""

from asyncio import Future


class Stream:
    """One stream of a connection.

    Most streams are answered at once and need none of this state, so it stands in the class until it changes.
    """

    credit = 0  # by how much the peer enlarged the stream's window
    sent = 0  # bytes of DATA that were sent
    owed = 0  # bytes of DATA that came, and that the peer may send again once we say so
    pending: bytearray | None = None  # DATA that waits for a window or for the transport
    ends_after_pending = False  # whether `trailers`, or the mere end, follow
    trailers: bytes | None = None  # a block of literals; nothing: the usual end
    has_trailers = True
    drained: "Future[None] | None" = None  # done when nothing is pending any more
    stalled: tuple[int, float] = (-1, 0.0)  # bytes sent, and since when no more were

    def __init__(self, stream_id: int) -> None:
        self.stream_id = stream_id
