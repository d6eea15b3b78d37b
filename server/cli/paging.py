"""Reads a list that a server answers in pages."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

_LARGEST_PAGE = 200  # items; a server answers no more at once


class PagedRequest(Protocol):
    """A request of a List method."""

    page_size: int
    page_token: str


class PagedResponse(Protocol):
    """Its response."""

    @property
    def next_page_token(self) -> str:
        """What the next request must carry; empty after the last page."""


Request = TypeVar("Request", bound=PagedRequest)
Response = TypeVar("Response", bound=PagedResponse)
Item = TypeVar("Item")


@dataclass(frozen=True)
class Listing(Generic[Item]):
    """The items that were read, in the server's order, and whether the server has more of them."""

    items: list[Item]
    has_more: bool


def read_list(
    call: Callable[[Request], Response],
    request: Request,
    items: Callable[[Response], Iterable[Item]],
    limit: int | None = None,
) -> Listing[Item]:
    """Read page after page, all of them or until there are `limit` items.

    Args:
        call: the List method of a stub.
        request: with its filters; its page_size and page_token are set here.
        items: returns the items of a response.
        limit: at least 1; None is no limit.
    """
    found: list[Item] = []
    while True:
        request.page_size = _LARGEST_PAGE if limit is None else min(limit - len(found), _LARGEST_PAGE)
        response = call(request)
        found.extend(items(response))
        request.page_token = response.next_page_token
        if not response.next_page_token or len(found) == limit:
            return Listing(found, has_more=bool(response.next_page_token))
