"""How large requests may be, and how many items they may have: checked before a message is parsed."""

from allocator.errors import InvalidFieldError, MalformedRequestError, RequestTooLargeError

MOST_BYTES = 16 * 1024 * 1024  # of any request: 1,000 users with all attributes that the protos allow, in ASCII
MOST_BYTES_OF_ONE = 4 * 1024 * 1024  # of a request about one user
MOST_BYTES_WITHOUT_KEY = 64 * 1024  # of a request to health or reflection
MOST_ITEMS = 1_000

_MOST_OTHER_FIELDS = 1_000  # of a batch, which this release does not know
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_FIXED_SIZES = {_FIXED64: 8, _FIXED32: 4}
_LONGEST_VARINT = 10
_CONTINUES = 128  # a byte of a varint that is at least this is not its last


def check_bytes(message: bytes, most: int) -> None:
    """Raise RequestTooLargeError if a serialised request has too many bytes."""
    if len(message) > most:
        raise RequestTooLargeError(f"the request has {len(message):,} bytes: at most {most:,} are accepted")


def check_items(message: bytes, field: str, number: int) -> None:
    """Check how often a serialised message has the repeated field with this number, without building its items.

    Raises InvalidFieldError if that is more than MOST_ITEMS, and MalformedRequestError if the message is no protobuf.
    """
    if len(message) <= MOST_ITEMS:  # an item takes two bytes or more
        return
    wanted = number << 3 | _BYTES
    items = others = position = 0
    end = len(message)
    try:
        while position < end:
            tag, size = message[position], message[position + 1]
            if tag == wanted and size < _CONTINUES:  # as nearly all are
                items += 1
                position += 2 + size
            else:
                tag, position = _varint(message, position)
                items += tag == wanted
                others += tag != wanted
                position = _skip(message, position, tag & 7)
            if items > MOST_ITEMS:
                raise InvalidFieldError.of(field, f"must have at most {MOST_ITEMS:,} items, has more")
            if others > _MOST_OTHER_FIELDS:
                raise MalformedRequestError(f"the request has more than {_MOST_OTHER_FIELDS:,} unknown fields")
    except IndexError:
        raise MalformedRequestError("the request is cut off") from None


def _skip(message: bytes, position: int, wire_type: int) -> int:
    """Return where a field's value ends."""
    if wire_type == _BYTES:
        size, position = _varint(message, position)
        return position + size
    if wire_type == _VARINT:
        return _varint(message, position)[1]
    if wire_type in _FIXED_SIZES:
        return position + _FIXED_SIZES[wire_type]
    raise MalformedRequestError("the request has a field of an unknown kind")


def _varint(message: bytes, position: int) -> tuple[int, int]:
    """Return a number, and where it ends. Raises IndexError, or MalformedRequestError if it is too long."""
    value = 0
    for index in range(_LONGEST_VARINT):
        byte = message[position + index]
        value |= (byte & 127) << 7 * index
        if byte < _CONTINUES:
            return value, position + index + 1
    raise MalformedRequestError("the request has a number that is too long")
