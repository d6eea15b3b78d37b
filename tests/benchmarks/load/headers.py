"""HPACK (RFC 7541) around the package `hpack`, whose work is kept: a block means the same until the table changes."""

from collections.abc import Callable

from hpack import Decoder, Encoder

from tests.benchmarks.load.frames import BY_HTTP, UNKNOWN, request_packer

UNDECIDED = -1
_INDICES = 0x80  # in a block of one-byte indices every byte is at least this
_MOST_KEPT = 1_000


class Requests:
    """The headers of calls of one method, encoded for one connection."""

    def __init__(self, authority: str, path: str, metadata: tuple[tuple[str, str], ...]) -> None:
        self.encoder = Encoder()
        self._fields = [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", path),
            (":authority", authority),
            ("te", "trailers"),
            ("content-type", "application/grpc"),
            *metadata,
        ]
        self.packers: dict[float | None, Callable[[int, int], bytes]] = {}  # by timeout, until the table changes

    def packer(self, timeout: float | None) -> Callable[[int, int], bytes]:
        """Return a packer as `frames.request_packer` does. Use it once, and at once."""
        fields = self._fields
        if timeout is not None:
            fields = [*fields, ("grpc-timeout", f"{max(1, round(timeout * 1e3))}m")]
        block = self.encoder.encode(fields, huffman=False)
        packer = request_packer(block)
        if min(block) >= _INDICES:
            self.packers[timeout] = packer
        else:
            self.packers.clear()
        return packer


class Answers:
    """Reads statuses from blocks of headers and trailers."""

    def __init__(self) -> None:
        self._decoder = Decoder()
        self.statuses: dict[bytes, int] = {}  # by block, until the table changes

    def status(self, block: bytes) -> int:
        """Return the gRPC status; UNDECIDED if these are headers and trailers follow."""
        before = self._table()
        fields = dict(self._decoder.decode(block, raw=True))
        status = UNDECIDED
        if b"grpc-status" in fields:
            status = int(fields[b"grpc-status"])
        elif fields.get(b":status", b"200") != b"200":
            status = BY_HTTP.get(fields[b":status"], UNKNOWN)
        if self._table() != before or len(self.statuses) > _MOST_KEPT:
            self.statuses.clear()
        else:  # grpc sends an empty grpc-message with every OK, and never indexes it
            self.statuses[block] = status
        return status

    def _table(self) -> tuple[object, ...]:
        table = self._decoder.header_table
        return table.maxsize, *table.dynamic_entries
