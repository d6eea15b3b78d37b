"""Encodes the header fields of answers (RFC 7541).

The three fields that every answer has go into the peer's table once; after that the usual answer costs three bytes.
All other fields are sent as literals, which leave the table alone. A peer with a table too small for the three gets
literals only.
"""

from collections.abc import Sequence
from typing import Final

from server.transport.http2.field_table import FIELD_OVERHEAD, FIRST_DYNAMIC, STATIC, Field

_DEFAULT_TABLE = 4096
_INDEXED, _INCREMENTAL, _LITERAL, _RESIZE = 0x80, 0x40, 0x00, 0x20
_STATIC_NAMES: Final = {name: number for number, (name, _) in reversed(list(enumerate(STATIC, 1)))}
_STATIC_FIELDS: Final = {field: number for number, field in enumerate(STATIC, 1)}


def _integer(value: int, prefix_bits: int, flags: int) -> bytes:
    """Return an integer behind flags (RFC 7541 §5.1)."""
    mask = (1 << prefix_bits) - 1
    if value < mask:
        return bytes([flags | value])
    encoded = bytearray([flags | mask])
    value -= mask
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def _string(text: bytes) -> bytes:
    return _integer(len(text), 7, 0) + text


def _field(field: Field, flags: int, prefix_bits: int) -> bytes:
    name, value = field
    index = _STATIC_NAMES.get(name)
    if index is None:
        return bytes([flags]) + _string(name) + _string(value)
    return _integer(index, prefix_bits, flags) + _string(value)


def literals(fields: Sequence[Field]) -> bytes:
    """Return fields as they can be sent on any connection: static ones by their index, the rest as literals."""
    return b"".join(
        _integer(_STATIC_FIELDS[field], 7, _INDEXED) if field in _STATIC_FIELDS else _field(field, _LITERAL, 4)
        for field in fields
    )


class ResponseEncoder:
    """Encodes for one connection.

    `head` are the fields at the begin, `tail` is the field at the end of the usual answer. Once both are in the peer's
    table, `is_settled` is true, and `head_block` and `tail_block` are constants.
    """

    def __init__(self, status: Field, head: tuple[Field, Field], tail: Field) -> None:
        self._status = literals([status])
        self._head = head
        self._tail = tail
        self._capacity = _DEFAULT_TABLE
        self._must_resize = False
        self._inserted_head = self._inserted_tail = False
        self.is_settled = False
        self.head_block = self._status + b"".join(_integer(FIRST_DYNAMIC + 1 + k, 7, _INDEXED) for k in (1, 0))
        self.tail_block = _integer(FIRST_DYNAMIC, 7, _INDEXED)

    def resize(self, capacity: int) -> None:
        """Obey the peer's SETTINGS_HEADER_TABLE_SIZE. We never use more than the default, and never grow again."""
        if capacity < self._capacity:
            self._capacity = capacity
            self._must_resize = True
            self.is_settled = False

    def head(self, extra: Sequence[Field] = ()) -> bytes:
        """Return the block that begins an answer."""
        prefix = self._prefix()
        if not self._uses_table:
            return prefix + self._status + literals(self._head) + literals(extra)
        if not self._inserted_head:
            self._inserted_head = True
            block = self._status + b"".join(_field(field, _INCREMENTAL, 6) for field in self._head)
        else:
            newest = FIRST_DYNAMIC + self._inserted_tail
            block = self._status + b"".join(_integer(newest + k, 7, _INDEXED) for k in (1, 0))
        self._settle()
        return prefix + block + literals(extra)

    def tail(self) -> bytes:
        """Return the field that ends the usual answer."""
        prefix = self._prefix()
        if not self._uses_table or not self._inserted_head:
            return prefix + literals([self._tail])
        if not self._inserted_tail:
            self._inserted_tail = True
            self._settle()
            return prefix + _field(self._tail, _INCREMENTAL, 6)
        self._settle()
        return prefix + self.tail_block

    def other(self, block: bytes) -> bytes:
        """Return a block of `literals` as it is to be sent now."""
        return self._prefix() + block

    @property
    def _uses_table(self) -> bool:
        fields = (*self._head, self._tail)
        return self._capacity >= sum(len(name) + len(value) + FIELD_OVERHEAD for name, value in fields)

    def _settle(self) -> None:
        self.is_settled = self._inserted_tail and self._uses_table and not self._must_resize

    def _prefix(self) -> bytes:
        """Return the notice that the table became smaller, which begins the next block."""
        if not self._must_resize:
            return b""
        self._must_resize = False
        return _integer(self._capacity, 5, _RESIZE)
