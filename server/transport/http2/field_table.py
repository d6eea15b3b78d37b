"""The table of header fields that both ends of a connection keep in step (RFC 7541 §2.3 and §4)."""

from collections import deque
from typing import Final

from hpack.table import HeaderTable

Field = tuple[bytes, bytes]  # a header field: name and value

STATIC: Final[tuple[Field, ...]] = HeaderTable.STATIC_TABLE
FIRST_DYNAMIC: Final = len(STATIC) + 1
FIELD_OVERHEAD: Final = 32  # what a field counts beside the bytes of its name and value


class FieldTable:
    """The dynamic table of one direction. `version` grows with each change, so that what was derived can be dropped."""

    __slots__ = ("_size", "capacity", "entries", "version")

    def __init__(self, capacity: int) -> None:
        self.entries: deque[Field] = deque()  # the newest first
        self._size = 0
        self.capacity = capacity
        self.version = 0

    def get(self, index: int) -> Field:
        """Return the field at an index of the joint table, which counts from 1. Raises IndexError."""
        if index >= FIRST_DYNAMIC:
            return self.entries[index - FIRST_DYNAMIC]
        if index > 0:
            return STATIC[index - 1]
        raise IndexError(index)

    def add(self, field: Field) -> None:
        """Insert a field, and evict the oldest ones as needed. A field larger than the table empties it."""
        self.version += 1
        name, value = field
        self.entries.appendleft(field)
        self._size += len(name) + len(value) + FIELD_OVERHEAD
        if self._size > self.capacity:
            self._evict()

    def resize(self, capacity: int) -> None:
        """Set the capacity, and evict the oldest fields as needed."""
        self.version += 1
        self.capacity = capacity
        self._evict()

    def _evict(self) -> None:
        while self._size > self.capacity:
            name, value = self.entries.pop()
            self._size -= len(name) + len(value) + FIELD_OVERHEAD
