"""Serialised requests, joined by hand: a message of protobuf costs more than the call that sends it.

What is made here are functions from a number to bytes, as the generator wants them.
"""

from collections.abc import Callable, Sequence
from itertools import product

from samplit.allocation.v1 import allocation_service_pb2 as pb
from samplit.allocation.v1.context_pb2 import WebContext

ALLOCATE_USER = "/samplit.allocation.v1.AllocationService/AllocateUser"
ALLOCATE_USERS = "/samplit.allocation.v1.AllocationService/AllocateUsers"
SOURCES = "google", "instagram", "facebook", "tiktok", "newsletter", "bing", "linkedin", "partner"
COUNTRIES = "BR", "US", "DE", "IN", "MX"
USER_AGENTS = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_4 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) "
    "Version/17.4 Mobile/15E148 Safari/604.1",
    "Mozilla/5.0 (Linux; Android 14; Pixel 8) AppleWebKit/537.36 (KHTML, like Gecko) "
    "Chrome/126.0.0.0 Mobile Safari/537.36",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10.15; rv:127.0) Gecko/20100101 Firefox/127.0",
)
_REQUESTS = b"\x0a"  # field 1, length-delimited
_IDENTIFIER = b"\x12"  # field 2, length-delimited
_STRIDE = 2_654_435_761  # prime, 2^32 over the golden ratio: multiples of it are spread evenly
_OTHER_STRIDE = 2_246_822_519  # so that the order of returning users has no pattern in time
_SPREAD = 2**32


def users(experiment_id: str, prefix: str, *, segmented: bool = False) -> Callable[[int], bytes]:
    """The request of user number n (below 10^10), "PREFIXn" with ten digits. Where the experiment is segmented, each
    has a web context of their own: one of 8 sources, 5 countries and 4 user agents.

    Raises ValueError if the prefix is too long, in UTF-8, for a length of one byte.
    """
    return joined([head(experiment_id)], prefix, contexts() if segmented else [])


def head(experiment_id: str) -> bytes:
    """How an AllocateUserRequest begins."""
    return pb.AllocateUserRequest(experiment_id=experiment_id).SerializeToString()


def contexts() -> list[bytes]:
    """How AllocateUserRequests end: web contexts of 8 sources, 5 countries and 4 user agents."""
    return [
        tail(utm_source=source, user_agent=agent, country_code=country)
        for source, country, agent in product(SOURCES, COUNTRIES, USER_AGENTS)
    ]


def tail(**context: str) -> bytes:
    """How an AllocateUserRequest with this web context ends."""
    return pb.AllocateUserRequest(web=WebContext(**context)).SerializeToString()


def joined(heads: Sequence[bytes], prefix: str, tails: Sequence[bytes]) -> Callable[[int], bytes]:
    """As `users`, with heads that take turns, and tails that are dealt to the users.

    Raises ValueError if the prefix is too long, in UTF-8, for a length of one byte.
    """
    length = len(prefix.encode()) + 10
    if length > 127:
        raise ValueError(f"the prefix may have at most 117 bytes, has {length - 10}")
    user = _IDENTIFIER + bytes([length]) + prefix.encode()
    tails = tails or [b""]
    return lambda number: heads[number % len(heads)] + user + b"%010d" % number + tails[number * _STRIDE % len(tails)]


def returning(user: Callable[[int], bytes], pool: int) -> Callable[[int], bytes]:
    """Requests of users 0 to pool - 1, in an order without a pattern in time. Whoever wants them to return sends each
    of `user` first."""
    return lambda number: user(number * _OTHER_STRIDE % _SPREAD * pool // _SPREAD)


def mix(new: Callable[[int], bytes], old: Callable[[int], bytes], share: float) -> Callable[[int], bytes]:
    """Return a function that takes `old` for this share of the numbers, spread evenly, and else `new`."""
    threshold = int(share * _SPREAD)
    return lambda number: old(number) if number * _STRIDE % _SPREAD < threshold else new(number)


def batch(user: Callable[[int], bytes], first: int, size: int) -> bytes:
    """Return the AllocateUsersRequest of `size` users from the first one on."""
    requests = (user(number) for number in range(first, first + size))
    return b"".join(_REQUESTS + _varint(len(request)) + request for request in requests)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)
