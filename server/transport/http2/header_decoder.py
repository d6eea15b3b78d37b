"""Decodes blocks of header fields (RFC 7541), and tells the fields that repeat from those that vary.

Most calls of a client differ in few fields (a deadline, a trace). The decoder gives each block a *shape*: its repeated
fields in full, and only the names of the varying ones. Whoever knows a shape already needs to look at the values of its
varying fields alone.
"""

from server.transport.http2 import huffman
from server.transport.http2.field_table import FIELD_OVERHEAD, FIRST_DYNAMIC, Field, FieldTable

# A literal field that comes again in the same bytes is a repeated one. So much is remembered to notice it.
_MOST_NAMES = 32
_MOST_VALUES = 8  # of each name
_LARGEST_VALUE = 1024
_LARGEST_NAME = 64

_INDEXED, _INDEXED_MASK = 0x80, 0x7F
_INCREMENTAL, _INCREMENTAL_MASK = 0x40, 0x3F
_RESIZE, _RESIZE_MASK = 0x20, 0x1F
_LITERAL_MASK = 0x0F
_HUFFMAN, _LENGTH_MASK = 0x80, 0x7F
_MOST_SHIFTS = 28  # of an integer: more than any length here, and no work for endless ones


class HeaderError(ValueError):
    """A block cannot be decoded, which leaves the tables of both ends out of step."""


class Block:
    """A decoded block. `shape` has a field where it repeats, and a bare name where its value is in `values`."""

    __slots__ = ("shape", "values")

    def __init__(self, shape: tuple[Field | bytes, ...], values: list[bytes]) -> None:
        self.shape = shape
        self.values = values

    def fields(self) -> list[Field]:
        """Return all fields in their order."""
        values = iter(self.values)
        return [part if isinstance(part, tuple) else (part, next(values)) for part in self.shape]

    def names(self) -> list[bytes]:
        """Return the names of the varying fields, in the order of `values`."""
        return [part for part in self.shape if isinstance(part, bytes)]

    def size(self) -> int:
        """Return the bytes of all fields, as RFC 9113 §6.5.2 counts them."""
        return sum(len(name) + len(value) + FIELD_OVERHEAD for name, value in self.fields())


class HeaderDecoder:
    """Decodes the blocks of one connection, in the order in which they came."""

    def __init__(self, table_limit: int) -> None:
        """The table has at most `table_limit` bytes, as RFC 7541 §4.1 counts."""
        self.table = FieldTable(table_limit)
        self._table_limit = table_limit
        self._literals: dict[bytes, dict[bytes, Field]] = {}  # by name, and by the bytes of the value

    def decode(self, block: bytes) -> Block:
        """Return the fields of a block. Raises HeaderError."""
        try:
            return self._decode(block)
        except IndexError:
            raise HeaderError("an index is beyond the table, or the block is cut off") from None
        except huffman.HuffmanError as error:
            raise HeaderError(str(error)) from None

    def _decode(self, block: bytes) -> Block:
        shape: list[Field | bytes] = []
        values: list[bytes] = []
        table = self.table
        entries = table.entries
        position, end = 0, len(block)
        while position < end:
            first = block[position]
            position += 1
            if first & _INDEXED:
                index = first & _INDEXED_MASK
                if index == _INDEXED_MASK:
                    index, position = _continue_integer(block, position, index)
                shape.append(entries[index - FIRST_DYNAMIC] if index >= FIRST_DYNAMIC else table.get(index))
            elif first & (_INCREMENTAL | _RESIZE) == _RESIZE:
                position = self._resize(block, position, first, is_late=bool(shape))
            else:
                field, position, is_new = self._literal(block, position, first)
                if is_new:
                    shape.append(field[0])
                    values.append(field[1])
                else:
                    shape.append(field)
                if first & _INCREMENTAL:
                    table.add(field)
        return Block(tuple(shape), values)

    def _literal(self, block: bytes, position: int, first: int) -> tuple[Field, int, bool]:
        """Return a literal field, where it ends, and whether it did not come before."""
        mask = _INCREMENTAL_MASK if first & _INCREMENTAL else _LITERAL_MASK
        index = first & mask
        if index == mask:
            index, position = _continue_integer(block, position, index)
        if index:
            name = self.table.get(index)[0]
        else:
            begin = position
            text, position = _string_end(block, position)
            name = _string(block, text, position, begin)
        begin = position
        length = block[position]
        if length & _LENGTH_MASK == _LENGTH_MASK:
            text, position = _string_end(block, position)
        else:
            text = position + 1
            position = text + (length & _LENGTH_MASK)
        raw = block[begin:position]
        known = self._literals.get(name)
        if known is not None:
            field = known.get(raw)
            if field is not None:
                return field, position, False
        if position > len(block):
            raise HeaderError("a string ends after its block")
        value = block[text:position]
        if length & _HUFFMAN:
            value = huffman.decode(value)
        field = name, value
        self._remember(field, raw)
        return field, position, True

    def _remember(self, field: Field, raw: bytes) -> None:
        name, _ = field
        if len(raw) > _LARGEST_VALUE or len(name) > _LARGEST_NAME:
            return
        known = self._literals.get(name)
        if known is None:
            if len(self._literals) >= _MOST_NAMES:
                self._literals.clear()
            known = self._literals[name] = {}
        elif len(known) >= _MOST_VALUES:
            known.clear()
        known[raw] = field

    def _resize(self, block: bytes, position: int, first: int, *, is_late: bool) -> int:
        if is_late:
            raise HeaderError("a change of the table's size comes first in a block")
        capacity = first & _RESIZE_MASK
        if capacity == _RESIZE_MASK:
            capacity, position = _continue_integer(block, position, capacity)
        if capacity > self._table_limit:
            raise HeaderError("the table would exceed its limit")
        self.table.resize(capacity)
        return position


def _continue_integer(block: bytes, position: int, value: int) -> tuple[int, int]:
    """Return an integer that filled its prefix, and where it ends (RFC 7541 §5.1)."""
    shift = 0
    while True:
        byte = block[position]
        position += 1
        value += (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
        if shift > _MOST_SHIFTS:
            raise HeaderError("an integer is too long")


def _string_end(block: bytes, position: int) -> tuple[int, int]:
    """Return where the text of a string begins and ends."""
    length = block[position] & _LENGTH_MASK
    position += 1
    if length == _LENGTH_MASK:
        length, position = _continue_integer(block, position, length)
    end = position + length
    if end > len(block):
        raise HeaderError("a string ends after its block")
    return position, end


def _string(block: bytes, begin: int, end: int, head: int) -> bytes:
    """Return the text between two positions, of a string whose first byte is at `head`."""
    text = block[begin:end]
    return huffman.decode(text) if block[head] & _HUFFMAN else text
