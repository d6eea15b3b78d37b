"""Items are counted in the bytes of a request, as protobuf would find them."""

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st
from samplit.allocation.v1 import allocation_service_pb2 as pb

from allocator.errors import InvalidFieldError, MalformedRequestError, RequestTooLargeError
from server.api.limits import MOST_ITEMS, check_bytes, check_items


def batch(sizes: list[int]) -> bytes:
    requests = [pb.AllocateUserRequest(user_identifier="x" * size) for size in sizes]
    return pb.AllocateUsersRequest(requests=requests).SerializeToString()


@pytest.mark.parametrize("size", [0, 1, 100, 125, 126, 127, 128, 20_000])
def test_as_many_as_are_allowed(size: int) -> None:
    check_items(batch([size] * MOST_ITEMS), "requests", 1)
    with pytest.raises(InvalidFieldError, match="requests: must have at most 1,000 items"):
        check_items(batch([size] * (MOST_ITEMS + 1)), "requests", 1)


def test_fields_of_a_later_release_do_not_count() -> None:
    later = b"\x10\x01" + b"\x19" + bytes(8) + b"\x25" + bytes(4) + b"\x2a\x03abc"
    check_items(batch([9] * MOST_ITEMS) + later, "requests", 1)
    with pytest.raises(MalformedRequestError):
        check_items(b"\x10\x01" * 1_001, "requests", 1)


def test_groups_hide_nothing() -> None:
    with pytest.raises(MalformedRequestError):
        check_items(b"\x1b" + batch([9] * (MOST_ITEMS + 1)) + b"\x1c", "requests", 1)


@given(st.binary(min_size=1_001, max_size=3_000))
def test_whatever_comes_is_refused_or_as_small_as_it_says(message: bytes) -> None:
    try:
        check_items(message, "requests", 1)
    except (InvalidFieldError, MalformedRequestError):
        return
    try:
        parsed = pb.AllocateUsersRequest.FromString(message)
    except DecodeError:
        return
    assert len(parsed.requests) <= MOST_ITEMS


def test_bytes() -> None:
    check_bytes(bytes(10), 10)
    with pytest.raises(RequestTooLargeError, match="11 bytes: at most 10"):
        check_bytes(bytes(11), 10)
