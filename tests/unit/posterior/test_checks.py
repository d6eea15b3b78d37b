"""Wrong posteriors, shares and floors are refused, wherever the fault is."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from allocator.defects import InvalidTableError
from allocator.posterior.checks import (
    MAX_SHAPE,
    MIN_SHAPE,
    check_counts,
    check_floor,
    check_groups,
    check_probabilities,
    check_shapes,
    check_tables,
    check_traffic,
)

SIZES = st.tuples(st.integers(1, 5), st.integers(1, 5))
GOOD_SHAPES = st.floats(MIN_SHAPE, MAX_SHAPE)
BAD_SHAPES = st.one_of(
    st.just(float("nan")), st.floats(max_value=0), st.floats(MAX_SHAPE, exclude_min=True), st.just(5e-324)
)
SHARES = st.floats(0, 1)
BAD_SHARES = st.one_of(st.just(float("nan")), st.floats(max_value=0, exclude_max=True), st.floats(1, exclude_min=True))


def tables(data: st.DataObject, values: st.SearchStrategy[float]) -> tuple[np.ndarray, np.ndarray]:
    size = data.draw(SIZES)
    return tuple(data.draw(arrays.arrays(np.float64, size, elements=values)) for _ in range(2))


def spoil(data: st.DataObject, table: np.ndarray, value: float) -> None:
    table[tuple(data.draw(st.integers(0, size - 1)) for size in table.shape)] = value


@given(st.data())
def test_good_shapes_pass(data: st.DataObject) -> None:
    check_shapes(*tables(data, GOOD_SHAPES))


@given(st.data(), BAD_SHAPES, st.integers(0, 1))
def test_one_bad_shape_is_refused_anywhere(data: st.DataObject, bad: float, which: int) -> None:
    both = tables(data, GOOD_SHAPES)
    spoil(data, both[which], bad)
    with pytest.raises(InvalidTableError, match="alpha" if which == 0 else "beta"):
        check_shapes(*both)


@given(SIZES, SIZES)
def test_unlike_sizes_are_refused(size: tuple[int, int], other: tuple[int, int]) -> None:
    if size == other:
        check_shapes(np.ones(size), np.ones(other))
    else:
        with pytest.raises(InvalidTableError, match="beta must be as large"):
            check_shapes(np.ones(size), np.ones(other))


@pytest.mark.parametrize("size", [(0, 2), (2, 0), (0, 0), (3,), (1, 2, 2)])
def test_empty_and_misshapen_tables_are_refused(size: tuple[int, ...]) -> None:
    for check in (check_shapes, check_counts):
        with pytest.raises(InvalidTableError, match="two dimensions"):
            check(np.ones(size), np.ones(size))


@given(st.integers(1, 6), st.integers(1, 6), BAD_SHARES)
def test_probabilities(rows: int, arms: int, bad: float) -> None:
    best = np.full((rows, arms), 1 / arms)
    check_probabilities(best)
    with pytest.raises(InvalidTableError, match="sum"):
        check_probabilities(best * 0.999)
    best[rows - 1, 0] = bad
    with pytest.raises(InvalidTableError, match=f"best.{rows - 1}, 0"):
        check_probabilities(best)


def checked_tables(rows: int = 2, arms: int = 2, trials: int = 0, best_rows: int = 2, trial_rows: int = 2) -> None:
    table = np.ones((rows, 2))
    check_tables(table, table, np.full((best_rows, 2), 0.5), np.full(trial_rows, trials), arms)


@pytest.mark.parametrize("wrong", [{"arms": 3}, {"arms": 0}, {"trials": -1}, {"best_rows": 1}, {"trial_rows": 3}])
def test_tables_must_agree(wrong: dict[str, int]) -> None:
    checked_tables()
    with pytest.raises(InvalidTableError):
        checked_tables(**wrong)


@given(st.data(), st.one_of(st.sampled_from([np.nan, np.inf, -np.inf]), st.floats(max_value=0, exclude_max=True)))
def test_counts(data: st.DataObject, bad: float) -> None:
    both = tables(data, st.floats(0, 1e12))
    check_counts(*both)
    spoil(data, both[data.draw(st.integers(0, 1))], bad)
    with pytest.raises(InvalidTableError, match="finite and at least 0"):
        check_counts(*both)


@given(arrays.arrays(np.float64, st.integers(1, 9), elements=st.floats(0.01, 1)), BAD_SHARES)
def test_traffic(weights: np.ndarray, bad: float) -> None:
    shares = weights / weights.sum()
    check_traffic(shares, shares.size)
    with pytest.raises(InvalidTableError, match="sum to 1"):
        check_traffic(shares * 0.9, shares.size)
    with pytest.raises(InvalidTableError, match="as large as segments"):
        check_traffic(shares, shares.size + 1)
    shares[-1] = bad
    with pytest.raises(InvalidTableError, match="from 0 to 1"):
        check_traffic(shares, shares.size)


@given(SHARES, SHARES)
def test_groups_that_fit_into_one(holdout: float, baseline: float) -> None:
    if holdout + baseline <= 1:
        check_groups(holdout, baseline)
    else:
        with pytest.raises(InvalidTableError, match="fit into 1"):
            check_groups(holdout, baseline)


@given(BAD_SHARES, SHARES)
def test_groups_of_impossible_shares(bad: float, good: float) -> None:
    for shares, name in (((bad, good), "holdout"), ((good, bad), "baseline")):
        with pytest.raises(InvalidTableError, match=f"{name}_share must be"):
            check_groups(*shares)


@given(st.integers(1, 1_000), SHARES)
def test_floors_that_fit(arms: int, part: float) -> None:
    check_floor(part / arms, arms)
    with pytest.raises(InvalidTableError, match="floor"):
        check_floor(1.001 / arms + part, arms)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -1e-9])
def test_floors_that_are_no_probability(bad: float) -> None:
    with pytest.raises(InvalidTableError, match="floor"):
        check_floor(bad, 3)


@pytest.mark.parametrize("arms", [0, -1])
def test_a_floor_of_no_arms(arms: int) -> None:
    with pytest.raises(InvalidTableError, match="at least one arm"):
        check_floor(0.01, arms)


def test_nothing_is_changed() -> None:
    """Checks only read: they work on arrays that cannot be written."""
    table = np.ones((2, 3))
    table.flags.writeable = False
    checks: list[Callable[[], None]] = [lambda: check_shapes(table, table), lambda: check_counts(table, table)]
    for check in checks:
        check()
