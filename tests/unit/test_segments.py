"""Segment keys: canonical, reversible, and refused where they would be ambiguous."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from allocator.errors import InvalidFieldError
from allocator.segments import check_segment_by, display_name, parse_segment_key, segment_key

VALUES = st.text(st.characters(exclude_categories=["Cs"]), max_size=80)


def test_a_key_names_dimensions_in_configured_order() -> None:
    dimensions = {"device": "Mobile", "source": " Instagram ", "plan": "Pro"}
    assert segment_key(["source", "device"], dimensions) == "source:instagram|device:mobile"
    assert segment_key(["attributes.plan", "source"], dimensions) == "plan:pro|source:instagram"


def test_no_dimensions_are_global_and_missing_values_unknown() -> None:
    assert segment_key([], {"source": "x"}) == "global"
    assert segment_key(["source"], {}) == "source:unknown"


@given(VALUES, VALUES)
def test_a_key_can_be_read_back(source: str, device: str) -> None:
    key = segment_key(["source", "device"], {"source": source, "device": device})
    parsed = parse_segment_key(key)
    assert list(parsed) == ["source", "device"]
    assert segment_key(["source", "device"], parsed) == key


@given(VALUES, VALUES)
def test_different_values_have_different_keys(one: str, other: str) -> None:
    first, second = (parse_segment_key(segment_key(["source"], {"source": v}))["source"] for v in (one, other))
    assume(first != second)
    assert segment_key(["source"], {"source": one}) != segment_key(["source"], {"source": other})


@given(VALUES)
def test_case_and_margins_do_not_matter(value: str) -> None:
    assume(value.upper().lower() == value.lower())
    assert segment_key(["source"], {"source": f"  {value.upper()} "[:80]}) == segment_key(
        ["source"], {"source": f"  {value.lower()} "[:80]}
    )


def test_display_names_are_for_people() -> None:
    assert display_name("source:instagram|device:mobile") == "Instagram · Mobile"
    assert display_name("mens:1") == "mens 1"
    assert display_name("global") == "Everyone"
    assert display_name("country:br|source:unknown") == "BR · source unknown"


@pytest.mark.parametrize(
    ("segment_by", "field"),
    [
        ([], "path"),
        (["shoe_size"], "path[0]"),
        (["source", "attributes.Plan"], "path[1]"),
        (["source", "source"], "path[1]"),
        (["attributes.source"], "path[0]"),
        (["source", "medium", "campaign", "device", "os", "browser", "country"], "path"),
    ],
)
def test_unknown_dimensions_are_refused_by_path(segment_by: list[str], field: str) -> None:
    with pytest.raises(InvalidFieldError) as refused:
        check_segment_by(segment_by, "path")
    assert [violation.field for violation in refused.value.violations] == [field]
