"""Keys, groups and seeds are stored or must be drawn again: what they are must never change."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allocator.errors import InvalidFieldError
from allocator.hashing import assignment_id, draw_seed, group_position, parse_assignment_id, user_key

IDENTITY = bytes(range(32))
SALT = bytes(range(16))


def test_stored_cases() -> None:
    key = user_key(IDENTITY, "user-4711")
    assert key.hex() == "acbd8b29ecfdcff58831da1c246c71d6"
    assert group_position(SALT, key) == 0.6250134935616951
    assert draw_seed(SALT, key, 7) == (-8853341541891819378, -1605786429839388041)
    assert assignment_id(IDENTITY, 12, key) == "DAAAAKy9iyns_c_1iDHaHCRscdYZF-M9"


def test_domains_are_separate() -> None:
    key = user_key(IDENTITY, "u")
    assert group_position(SALT, key) != draw_seed(SALT, key, 0)[0] / 2**64
    assert draw_seed(SALT, key, 1) != draw_seed(SALT, key, 2)
    assert user_key(bytes(32), "u") != key


@given(st.integers(0, 2**32 - 1), st.binary(min_size=16, max_size=16))
def test_an_assignment_id_can_be_read_back(number: int, key: bytes) -> None:
    text = assignment_id(IDENTITY, number, key)
    assert len(text) == 32
    assert parse_assignment_id(IDENTITY, text) == (number, key)


@given(st.text(max_size=64))
def test_a_forged_assignment_id_is_refused(text: str) -> None:
    with pytest.raises(InvalidFieldError):
        parse_assignment_id(IDENTITY, text)


def test_an_assignment_id_of_another_installation_is_refused() -> None:
    with pytest.raises(InvalidFieldError):
        parse_assignment_id(IDENTITY, assignment_id(bytes(32), 1, bytes(16)))
