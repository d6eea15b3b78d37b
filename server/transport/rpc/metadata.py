"""Metadata of calls: what clients send as a mapping, and what servers send as header fields.

The document "gRPC over HTTP2" has the rules: names in lower case; values that are printable ASCII, or, for names that
end in "-bin", base64; status messages percent-encoded.
"""

import re
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final
from urllib.parse import quote

Pairs = Sequence[tuple[str, str | bytes]]
RESERVED: Final = frozenset({b"content-type", b"te", b"content-length", b"grpc-timeout", b"grpc-encoding"})
_NAME = re.compile(r"[0-9a-z_.-]+")
_TEXT = re.compile(r"[ -~]*")
_UNQUOTED = " !\"#$&'()*+,-./:;<=>?@[\\]^_`{|}~"  # all that is printable, but the percent sign


class Metadata(Mapping[str, str | bytes]):
    """What a client sent with a call. Several values of a name are joined by commas; `all` keeps them apart."""

    __slots__ = ("_values",)

    def __init__(self, fields: Iterable[tuple[bytes, bytes]]) -> None:
        """Pseudo-header fields and those of the protocol itself are left out."""
        self._values: dict[str, list[str | bytes]] = {}
        for name, value in fields:
            if name[:1] != b":" and name not in RESERVED:
                key = name.decode("latin-1")
                values: Iterable[str | bytes]
                values = _binary_values(value) if name.endswith(b"-bin") else (value.decode("latin-1"),)
                self._values.setdefault(key, []).extend(values)

    def __getitem__(self, name: str) -> str | bytes:
        """Return the values of a name, joined, or the first of a name that ends in "-bin"."""
        values = self._values[name]
        first = values[0] if values else b""
        return first if isinstance(first, bytes) else ",".join(map(str, values))

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names."""
        return iter(self._values)

    def __len__(self) -> int:
        """Return the number of names."""
        return len(self._values)

    def all(self, name: str) -> list[str | bytes]:
        """Return every value of a name, in the order in which they were sent."""
        return list(self._values.get(name, ()))

    def __repr__(self) -> str:
        """Name no value: some are secrets."""
        return f"Metadata({', '.join(self._values)})"


def _binary_values(value: bytes) -> Iterator[bytes]:
    """Decode base64, padded or not. What is not base64 is left out, since the protocol forbids to fail for it."""
    for part in value.split(b","):
        try:
            yield b64decode(part + b"=" * (-len(part) % 4), validate=True)
        except Base64Error:
            continue


def to_fields(pairs: Pairs) -> list[tuple[bytes, bytes]]:
    """Return metadata as header fields. Raises ValueError for a name or value that may not be sent."""
    return [_to_field(name, value) for name, value in pairs]


def _to_field(name: str, value: str | bytes) -> tuple[bytes, bytes]:
    if not _NAME.fullmatch(name) or name.startswith("grpc-") or name.encode() in RESERVED:
        raise ValueError(f"metadata cannot be named {name!r}")
    if name.endswith("-bin"):
        if isinstance(value, str):
            raise ValueError(f"metadata {name!r} takes bytes")
        return name.encode(), b64encode(value).rstrip(b"=")
    if isinstance(value, bytes) or not _TEXT.fullmatch(value):
        raise ValueError(f"metadata {name!r} takes printable ASCII text")
    return name.encode(), value.encode()


def percent_encode(message: str) -> bytes:
    """Return a status message as it is sent: UTF-8, all but printable ASCII percent-encoded."""
    return quote(message, safe=_UNQUOTED, errors="replace").encode()


def base64(data: bytes) -> bytes:
    """Return binary metadata as it is sent: base64 without padding."""
    return b64encode(data).rstrip(b"=")
