"""Opaque page tokens: where a list goes on, bound to its filter."""

import base64
from hashlib import blake2b

from allocator.errors import InvalidFieldError

_MOST = 200
_DEFAULT = 50


def page_size(asked: int) -> int:
    """0 is the default, large is clamped, negative is refused with InvalidFieldError."""
    if asked < 0:
        raise InvalidFieldError.of("page_size", f"must not be negative, is {asked}")
    return min(asked or _DEFAULT, _MOST)


def encode(before: int, listing: str) -> str:
    """A token for what comes after the number `before`, in the listing of this filter."""
    return base64.urlsafe_b64encode(before.to_bytes(8, "big") + _digest(listing)).decode()


def decode(token: str, listing: str) -> int | None:
    """The number; None for an empty token. Raises InvalidFieldError."""
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
