"""The largest segments stay active, and a newcomer replaces one only if it is clearly larger."""

from hypothesis import given
from hypothesis import strategies as st

from allocator.segmentation.admission import plan_admission

KEYS = st.sampled_from([f"source:{n}" for n in range(12)])


def test_a_heavy_newcomer_replaces_the_smallest_segment() -> None:
    assert plan_admission(["a", "b"], {"a": 5, "b": 900, "c": 800, "d": 1}, 2) == (["a"], ["c"])


def test_a_segment_is_not_replaced_for_a_few_users_more() -> None:
    users = {"a": 100, "b": 900, "c": 150}
    assert plan_admission(["a", "b"], users, 2) == ([], [])
    assert plan_admission(["a", "b"], users | {"c": 160}, 2) == (["a"], ["c"])
    assert plan_admission(["c", "b"], users | {"c": 160}, 2) == ([], [])


def test_newcomers_with_enough_users_are_admitted_while_there_is_room() -> None:
    assert plan_admission(["a"], {"b": 30, "c": 20, "d": 9}, 4) == ([], ["b", "c"])


def test_of_too_many_segments_the_largest_stay() -> None:
    assert plan_admission(["a", "b", "c"], {"a": 5, "b": 900, "c": 80}, 1) == (["a", "c"], [])


@given(st.sets(KEYS), st.dictionaries(KEYS, st.integers(0, 1_000)), st.integers(1, 6))
def test_never_more_than_there_is_room_for_and_then_it_rests(
    active: set[str], users: dict[str, int], most: int
) -> None:
    retired, admitted = plan_admission(active, users, most)
    after = (active - set(retired)) | set(admitted)
    assert len(after) <= max(most, 0)
    assert set(retired) <= active
    assert not set(admitted) & active
    assert plan_admission(after, users, most) == ([], [])
