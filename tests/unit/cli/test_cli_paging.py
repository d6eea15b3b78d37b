"""Lists that a server answers in pages."""

from dataclasses import dataclass, field

import pytest

from server.cli.paging import Listing, read_list


@dataclass
class Request:
    page_size: int = 0
    page_token: str = ""


@dataclass
class Response:
    numbers: list[int]
    next_page_token: str


@dataclass
class Server:
    """Has the numbers below `count`, and answers at most 200 of them at once."""

    count: int
    asked: list[tuple[int, str]] = field(default_factory=list)

    def list_numbers(self, request: Request) -> Response:
        self.asked.append((request.page_size, request.page_token))
        begin = int(request.page_token or 0)
        end = min(begin + min(request.page_size, 200), self.count)
        return Response(list(range(begin, end)), str(end) if end < self.count else "")


@pytest.mark.parametrize(
    ("count", "limit", "asked", "has_more"),
    [
        (0, None, [(200, "")], False),
        (200, None, [(200, "")], False),
        (450, None, [(200, ""), (200, "200"), (200, "400")], False),
        (450, 50, [(50, "")], True),
        (450, 250, [(200, ""), (50, "200")], True),
        (250, 250, [(200, ""), (50, "200")], False),
        (30, 50, [(50, "")], False),
    ],
)
def test_pages_are_read_to_the_end_or_the_limit(
    count: int, limit: int | None, asked: list[tuple[int, str]], has_more: bool
) -> None:
    server = Server(count)
    found = read_list(server.list_numbers, Request(), lambda page: page.numbers, limit)
    assert found == Listing(list(range(count if limit is None else min(count, limit))), has_more)
    assert server.asked == asked
