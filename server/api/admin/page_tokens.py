"""Opaque page tokens: the position at which a list goes on, bound to the list's filter."""

import base64
from hashlib import blake2b

from allocator.errors import InvalidFieldError

_MOST = 200
_DEFAULT = 50


def page_size(asked: int) -> int:
    """Return the size of a page: the default for 0, the largest size for more. Raises InvalidFieldError if negative."""
    if asked < 0:
        raise InvalidFieldError.of("page_size", f"must not be negative, is {asked}")
    return min(asked or _DEFAULT, _MOST)


def encode(before: int, listing: str) -> str:
    """Return a token for the page that begins after the number `before`, in the list with this filter."""
    return base64.urlsafe_b64encode(before.to_bytes(8, "big") + _digest(listing)).decode()


def decode(token: str, listing: str) -> int | None:
    """Return the number in a token, or None for an empty token. Raises InvalidFieldError."""
    if not token:
        return None
    try:
        raw = base64.b64decode(token.encode(), altchars=b"-_", validate=True)
    except ValueError:
        raw = b""
    if len(raw) != 16:
        raise InvalidFieldError.of("page_token", "must be a next_page_token as the server answered it")
    if raw[8:] != _digest(listing):
        raise InvalidFieldError.of("page_token", "belongs to a call with another filter")
    return int.from_bytes(raw[:8], "big")


def _digest(listing: str) -> bytes:
    return blake2b(listing.encode(), digest_size=8).digest()
