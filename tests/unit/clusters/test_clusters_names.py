"""Names of clusters: what they say, and that no value that users send makes them long, equal or harmful."""

from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from allocator.clusters import fit_encoder
from allocator.clusters.names import name_clusters
from allocator.clusters.words import harmless

Dimensions = Mapping[str, str]


def names_of(audiences: list[Dimensions], users: int = 100) -> list[str]:
    contexts = [audience for audience in audiences for _ in range(users)]
    rows = np.repeat(np.arange(len(audiences)), users)
    return name_clusters(fit_encoder(contexts), contexts, rows, len(audiences))


@pytest.mark.parametrize(
    ("audiences", "expected"),
    [
        (
            [{"source": "instagram", "device": "mobile"}, {"source": "google", "device": "desktop"}],
            ["Instagram Mobile", "Google Desktop"],
        ),
        (
            [
                {"channel": "web", "hour": "13", "device": "desktop"},
                {"channel": "web", "hour": "2", "device": "mobile"},
            ],
            ["Lunchtime Desktop", "Late-night Mobile"],
        ),
        (
            [{"channel": "funnel", "is_weekend": "true"}, {"channel": "funnel", "is_weekend": "false"}],
            ["Weekend Shoppers", "Weekday Shoppers"],
        ),
        (
            [{"channel": "email", "engagement_score": "high"}, {"channel": "web", "engagement_score": ""}],
            ["Loyal Email Readers", "Browsers"],
        ),
        (
            [{"visits": "3", "plan": "yes"}, {"visits": "700", "plan": "no"}],
            ["Low Visits Plan Users", "High Visits Users"],
        ),
        ([{"device": "mobile"}] * 3, ["Other Users", "Other Users 2", "Other Users 3"]),
        ([{"device": "mobile", "campaign": "x"}], ["Everyone"]),
    ],
)
def test_names(audiences: list[Dimensions], expected: list[str]) -> None:
    assert names_of(audiences) == expected


@settings(max_examples=50, deadline=None)
@given(st.lists(st.dictionaries(st.sampled_from(["campaign", "source", "plan", "list"]), st.text()), max_size=6))
def test_names_are_short_different_and_harmless(audiences: list[Dimensions]) -> None:
    names = names_of([*audiences, {"campaign": "<b>\u202e" + "x" * 80}], users=5)
    assert len(set(names)) == len(names)
    for name in names:
        assert len(name) <= 40
        assert len(name.split()) <= 5  # a number may follow four words
        assert all(character.isalnum() or character in "- " for character in name)


def test_harmless() -> None:
    assert harmless("Summer Sale! <script>alert(1)</script>") == "Summer Sale"
    assert harmless("\u202e\x1b[31m") == "31m"
    assert harmless("a" * 40) == "a" * 16
    assert harmless("--- ***") == ""
