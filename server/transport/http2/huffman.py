"""Huffman-coded strings of HPACK (RFC 7541 §5.2 and Appendix B), a byte at a time.

A state is a node of the code's tree. Each state has a row: for each byte, the row of the next state and the symbols
that the byte completed. A row is filled when a string first comes to its state, since most states are never reached.
"""

from typing import Any, Final

from hpack.huffman_constants import REQUEST_CODES, REQUEST_CODES_LENGTH

_END_OF_STRING: Final = 256
_ROOT: Final = 0
_LONGEST_PADDING: Final = 7


class HuffmanError(ValueError):
    """The string holds the end-of-string symbol, or its padding is not a prefix of that symbol."""


def _grow_tree() -> list[list[int]]:
    """Return the children of each inner node: another inner node, or the negated symbol minus one."""
    tree = [[0, 0]]
    for symbol, (code, length) in enumerate(zip(REQUEST_CODES, REQUEST_CODES_LENGTH, strict=True)):
        node = _ROOT
        for position in reversed(range(length)):
            bit = code >> position & 1
            if position == 0:
                tree[node][bit] = -symbol - 1
            else:
                if not tree[node][bit]:
                    tree[node][bit] = len(tree)
                    tree.append([0, 0])
                node = tree[node][bit]
    return tree


_TREE = _grow_tree()


def _padding_states() -> frozenset[int]:
    """Return the states in which a string may end: the root, and up to seven ones after it."""
    states = [_ROOT]
    for _ in range(_LONGEST_PADDING):
        states.append(_TREE[states[-1]][1])
    return frozenset(states)


_Row = list[tuple[Any, bytes]]  # the next row, which a type cannot say of itself
_ROWS: list[_Row] = [[] for _ in _TREE]
_FORBIDDEN: _Row = []  # after the end-of-string symbol: no string may come here
_START = _ROWS[_ROOT]
_MAY_END = frozenset(id(_ROWS[state]) for state in _padding_states())


def _fill(row: _Row) -> None:
    if row is _FORBIDDEN:
        raise HuffmanError("end of string inside a string")
    state = next(number for number, known in enumerate(_ROWS) if known is row)
    row.extend(_step(state, byte) for byte in range(256))


def _step(state: int, byte: int) -> tuple[_Row, bytes]:
    """Return the row and the symbols that a byte leads to."""
    symbols = bytearray()
    for position in reversed(range(8)):
        state = _TREE[state][byte >> position & 1]
        if state < 0:
            symbol = -state - 1
            if symbol == _END_OF_STRING:
                return _FORBIDDEN, b""
            symbols.append(symbol)
            state = _ROOT
    return _ROWS[state], bytes(symbols)


def decode(data: bytes) -> bytes:
    """Return the text of a Huffman-coded string. Raises HuffmanError."""
    row = _START
    parts: list[bytes] = []
    add = parts.append
    for byte in data:
        try:
            row, symbols = row[byte]
        except IndexError:  # a state that no string came to before
            _fill(row)
            row, symbols = row[byte]
        add(symbols)
    if id(row) not in _MAY_END:
        raise HuffmanError("padding")
    return b"".join(parts)
