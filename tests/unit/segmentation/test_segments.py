"""Segment keys are canonical and reversible, and refused where they would be ambiguous."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from allocator.context import canonical
from allocator.errors import InvalidFieldError
from allocator.segments import check_dimensions, display_name, parse_segment_key, segment_key

VALUES = st.text(st.characters(exclude_categories=["Cs"]), max_size=80)


def key_of(**values: str) -> str:
    """Return the segment key of a context with these values."""
    known = {name: canonical(value) for name, value in values.items() if canonical(value)}
    return segment_key(list(values), known)


def test_a_key_names_dimensions_in_configured_order() -> None:
    dimensions = {"device": "mobile", "source": "instagram", "plan": "pro"}
    assert segment_key(["source", "device"], dimensions) == "source:instagram|device:mobile"
    assert segment_key(["attributes.plan", "source"], dimensions) == "plan:pro|source:instagram"


def test_no_dimensions_are_global_and_missing_values_unknown() -> None:
    assert segment_key([], {"source": "x"}) == "global"
    assert segment_key(["source"], {}) == "source:unknown"


@given(VALUES, VALUES)
def test_a_key_can_be_read_back(source: str, device: str) -> None:
    key = key_of(source=source, device=device)
    assert parse_segment_key(key) == {
        "source": canonical(source) or "unknown",
        "device": canonical(device) or "unknown",
    }
    assert segment_key(["source", "device"], parse_segment_key(key)) == key


@given(VALUES, VALUES, VALUES, VALUES)
def test_different_meanings_have_different_keys(one: str, two: str, three: str, four: str) -> None:
    assume([canonical(v) or "unknown" for v in (one, two)] != [canonical(v) or "unknown" for v in (three, four)])
    assert key_of(source=one, device=two) != key_of(source=three, device=four)


@given(VALUES)
def test_case_and_margins_do_not_matter(value: str) -> None:
    assume(value.upper().lower() == value.lower())
    assert key_of(source=f"  {value.upper()} "[:60]) == key_of(source=f"  {value.lower()} "[:60])


@given(VALUES)
def test_a_canonical_value_stays_as_it_is(value: str) -> None:
    once = canonical(value)
    assert canonical(once) == once
    assert len(once) <= 64
    assert once.isprintable()
    assert once == once.strip()


@pytest.mark.parametrize(
    ("value", "same"),
    [
        ("Ｉｎｓｔａｇｒａｍ", "instagram"),
        ("insta\u200bgram", "instagram"),
        ("cafe\u0301", "café"),
        (" a\t\nb\x00 ", "a b"),
        ("x" * 1_000_000, "x" * 64),
    ],
)
def test_the_same_meaning_has_one_spelling(value: str, same: str) -> None:
    assert canonical(value) == same


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("source:instagram|device:mobile", "Instagram · Mobile"),
        ("mens:1", "mens 1"),
        ("global", "Everyone"),
        ("other", "Other"),
        ("country:br|source:unknown", "BR · source unknown"),
        ("os:ios|browser:mobile safari", "iOS · Mobile Safari"),
        ("medium:paid_social|returning:false", "Paid Social · New"),
        ("is_weekend:true|hour:9", "Weekend · hour 9"),
        ("cart_value:50-199", "cart value 50-199"),
        ("source:a%3Ab%7Cc%25", "A:B|C%"),
    ],
)
def test_display_names_are_for_people(key: str, name: str) -> None:
    assert display_name(key) == name


@pytest.mark.parametrize(
    ("names", "field"),
    [
        ([], "path"),
        (["shoe_size"], "path[0]"),
        (["source", "attributes.Plan"], "path[1]"),
        (["source", "source"], "path[1]"),
        (["attributes.source"], "path[0]"),
        (["attributes.a|b"], "path[0]"),
        (["attributes.a:b"], "path[0]"),
        (["source:x"], "path[0]"),
        (["source", "medium", "campaign", "device", "os", "browser", "country"], "path"),
    ],
)
def test_unknown_dimensions_are_refused_by_path(names: list[str], field: str) -> None:
    with pytest.raises(InvalidFieldError) as refused:
        check_dimensions(names, "path")
    assert [violation.field for violation in refused.value.violations] == [field]
