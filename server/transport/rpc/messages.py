"""Messages as gRPC frames them: a flag, a length, the bytes; compressed with gzip or not."""

import zlib
from struct import Struct
from typing import Final

from server.transport.rpc.status import Code, StatusError, TooLargeError

PREFIX: Final = Struct(">BI")
PREFIX_SIZE: Final = PREFIX.size
IDENTITY: Final = b"identity"
GZIP: Final = b"gzip"
ACCEPTED: Final = b"identity,gzip"

_GZIP_WINDOW = 16 + zlib.MAX_WBITS
_LEVEL = 1  # a server's time costs more than the last bytes


def pack(message: bytes) -> bytes:
    """Return a message with its prefix, as it is."""
    return PREFIX.pack(0, len(message)) + message


def pack_compressed(message: bytes) -> bytes:
    """Return a message with its prefix: compressed if that makes it smaller."""
    compressor = zlib.compressobj(_LEVEL, zlib.DEFLATED, _GZIP_WINDOW)
    compressed = compressor.compress(message) + compressor.flush()
    if len(compressed) >= len(message):
        return pack(message)
    return PREFIX.pack(1, len(compressed)) + compressed


def unpack(flag: int, payload: bytes, encoding: bytes | None, limit: int) -> bytes:
    """Return a message from what stood behind its prefix. Raises StatusError.

    `encoding` is what the request's "grpc-encoding" says, `limit` bounds the message's bytes once inflated.
    """
    if flag == 0:
        return payload
    if flag != 1:
        raise StatusError(Code.INTERNAL, "a message's compressed flag is neither 0 nor 1")
    if encoding is None or encoding == IDENTITY:
        raise StatusError(Code.INTERNAL, "a message is flagged as compressed, but grpc-encoding names no compression")
    return _inflate(payload, limit)


def _inflate(data: bytes, limit: int) -> bytes:
    """Inflate all members of a gzip file, and never more than `limit` bytes."""
    message = b""
    while True:
        inflater = zlib.decompressobj(_GZIP_WINDOW)
        try:
            message += inflater.decompress(data, limit + 1 - len(message))
        except zlib.error:
            raise StatusError(Code.INTERNAL, "a compressed message is not valid gzip") from None
        if len(message) > limit:
            raise too_large(len(message), limit, at_least=True)
        if not inflater.eof:
            raise StatusError(Code.INTERNAL, "a compressed message is cut off")
        data = inflater.unused_data
        if not data:
            return message


def too_large(size: int, limit: int, *, at_least: bool = False) -> StatusError:
    """Return the error for a message beyond the limit."""
    size_text = f"at least {size}" if at_least else str(size)
    return TooLargeError(Code.RESOURCE_EXHAUSTED, f"a message has {size_text} bytes, more than the limit of {limit}")


class MessageReader:
    """Cuts the body of one request into its messages."""

    __slots__ = ("_encoding", "_limit", "buffer")

    def __init__(self, encoding: bytes | None, limit: int) -> None:
        self.buffer = bytearray()  # of a message that is not complete
        self._encoding = encoding
        self._limit = limit

    def feed(self, data: bytes) -> list[bytes]:
        """Take more of the body, and return the messages that it completes.

        Raises StatusError, as soon as the prefix of a message promises more than the limit.
        """
        buffer = self.buffer
        buffer += data
        messages = []
        begin = 0
        while len(buffer) - begin >= PREFIX_SIZE:
            flag, length = PREFIX.unpack_from(buffer, begin)
            if length > self._limit:
                raise too_large(length, self._limit)
            end = begin + PREFIX_SIZE + length
            if end > len(buffer):
                break
            payload = bytes(memoryview(buffer)[begin + PREFIX_SIZE : end])
            messages.append(unpack(flag, payload, self._encoding, self._limit))
            begin = end
        if begin:
            del buffer[:begin]
        return messages
