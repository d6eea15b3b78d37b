"""Keys, groups and seeds are stored, or computed again later, so they must never change."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allocator.errors import InvalidFieldError
from allocator.hashing import assignment_id, parse_assignment_id, user_key, user_words, version_word

IDENTITY = bytes(range(32))
SALT = bytes(range(16))


def test_stored_cases() -> None:
    key = user_key(IDENTITY, "user-4711")
    assert key.hex() == "acbd8b29ecfdcff58831da1c246c71d6"
    assert user_words(SALT, key) == (0.6525563010152309, -3985604144813639135, 8659648540152258800)
    assert version_word(7) == -2055123766364098239
    assert assignment_id(IDENTITY, 12, key) == b"DAAAAKy9iyns_c_1iDHaHCRscdYZF-M9"


def test_domains_are_separate() -> None:
    key = user_key(IDENTITY, "u")
    assert user_key(bytes(32), "u") != key
    assert user_words(bytes(16), key) != user_words(SALT, key)
    assert version_word(1) != version_word(2)


@given(st.integers(0, 2**32 - 1), st.binary(min_size=16, max_size=16))
def test_an_assignment_id_can_be_read_back(number: int, key: bytes) -> None:
    text = assignment_id(IDENTITY, number, key).decode()
    assert len(text) == 32
    assert parse_assignment_id(IDENTITY, text) == (number, key)


@given(st.text(max_size=64))
def test_a_forged_assignment_id_is_refused(text: str) -> None:
    with pytest.raises(InvalidFieldError):
        parse_assignment_id(IDENTITY, text)


def test_an_assignment_id_of_another_installation_is_refused() -> None:
    with pytest.raises(InvalidFieldError):
        parse_assignment_id(IDENTITY, assignment_id(bytes(32), 1, bytes(16)).decode())
