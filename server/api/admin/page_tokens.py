"""Opaque page tokens: the position at which a list goes on, bound to the list's filter and to the installation."""

import base64
import hmac
from hashlib import blake2b

from allocator.errors import InvalidFieldError

_MOST = 200
_DEFAULT = 50
_NUMBER_BYTES, _TAG_BYTES = 8, 16
_MOST_NUMBER = 2**63 - 1  # of PostgreSQL's bigint


def page_size(asked: int) -> int:
    """Return the size of a page: the default for 0, the largest size for more. Raises InvalidFieldError if negative."""
    if asked < 0:
        raise InvalidFieldError.of("page_size", f"must not be negative, is {asked}")
    return min(asked or _DEFAULT, _MOST)


class PageTokens:
    """Makes and reads page tokens. They are authenticated, so that only numbers that a server gave come back."""

    def __init__(self, identity: bytes) -> None:
        """`identity` is the secret of the installation, which all its servers share."""
        self._key = blake2b(key=identity, person=b"samplit.pages").digest()

    def encode(self, before: int, listing: str) -> str:
        """Return a token for the page that begins after the number `before`, in the list with this filter."""
        number = before.to_bytes(_NUMBER_BYTES, "big")
        return base64.urlsafe_b64encode(number + self._tag(number, listing)).decode()

    def decode(self, token: str, listing: str, most: int = _MOST_NUMBER) -> int | None:
        """Return the number in a token, at most `most`; None for an empty token. Raises InvalidFieldError."""
        if not token:
            return None
        try:
            raw = base64.b64decode(token.encode(), altchars=b"-_", validate=True)
        except ValueError:
            raw = b""
        number, tag = raw[:_NUMBER_BYTES], raw[_NUMBER_BYTES:]
        if not hmac.compare_digest(tag, self._tag(number, listing)) or int.from_bytes(number, "big") > most:
            raise InvalidFieldError.of(
                "page_token", "must be a next_page_token as the server answered it, to a call with the same filters"
            )
        return int.from_bytes(number, "big")

    def _tag(self, number: bytes, listing: str) -> bytes:
        return blake2b(number + listing.encode(), digest_size=_TAG_BYTES, key=self._key).digest()
