"""Pooled posteriors against the model computed cell by cell, and the cases that pooling is for."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from allocator.posterior.pooling import pooled_tables
from tests.support import naive

SHAPES = st.tuples(st.integers(1, 4), st.integers(2, 4))


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_the_model_written_out_cell_by_cell(data: st.DataObject) -> None:
    shape = data.draw(SHAPES)
    trials = data.draw(hnp.arrays(np.float64, shape, elements=st.integers(0, 5_000)))
    share = data.draw(hnp.arrays(np.float64, shape, elements=st.floats(0, 0.6)))
    weights = data.draw(hnp.arrays(np.float64, shape[0], elements=st.floats(0.01, 1)))
    successes = np.floor(trials * share)
    shares = weights / weights.sum()
    alpha, beta = pooled_tables(successes, trials, shares)
    slow_alpha, slow_beta = naive.pooled_tables(successes.tolist(), trials.tolist(), shares.tolist())
    np.testing.assert_allclose(alpha, slow_alpha, rtol=1e-8)
    np.testing.assert_allclose(beta, slow_beta, rtol=1e-8)


def test_rates_that_are_worlds_apart_are_told_apart() -> None:
    """The additive model starts, or stays, far away: the steps neither overshoot nor overflow."""
    successes = np.array([[162.0, 0.0], [0.0, 40_000.0]])
    trials = np.array([[324.0, 4_308.0], [90_000.0, 80_000.0]])
    alpha, beta = pooled_tables(successes, trials, np.array([0.5, 0.5]))
    mean = alpha[1:] / (alpha + beta)[1:]
    np.testing.assert_allclose(mean[[0, 1], [0, 1]], 0.5, atol=0.1)
    assert (mean[[0, 1], [1, 0]] < 0.02).all()


def test_one_arm_that_is_splendid_in_one_segment_is_not_taken_for_more_than_it_is() -> None:
    rates = np.full((8, 3), 0.02)
    rates[5, 2] = 0.10
    trials = np.full((8, 3), 4_000.0)
    alpha, beta = pooled_tables(trials * rates, trials, np.full(8, 1 / 8))
    mean = alpha / (alpha + beta)
    assert mean[6, 2] == pytest.approx(0.10, abs=0.02)
    assert mean[0, 2] == pytest.approx(0.03, abs=0.005)


def test_more_of_the_same_makes_tables_narrower() -> None:
    successes, trials = np.array([[10.0, 12.0]]), np.array([[100.0, 100.0]])
    few = sum(pooled_tables(successes, trials, np.ones(1)))
    many = sum(pooled_tables(100 * successes, 100 * trials, np.ones(1)))
    assert (many > 10 * few).all()


def test_agreeing_segments_lend_each_other_their_size() -> None:
    rates = np.array([0.10, 0.12, 0.10])
    trials = np.full((8, 3), 1_000.0)
    alpha, beta = pooled_tables(trials * rates, trials, np.full(8, 1 / 8))
    alone_alpha, alone_beta = pooled_tables(trials[:1] * rates, trials[:1], np.ones(1))
    assert ((alpha + beta)[1:] > 1.5 * (alone_alpha + alone_beta)[1:]).all()
    np.testing.assert_allclose(alpha[1:] / (alpha + beta)[1:], np.tile(rates, (8, 1)), atol=0.005)


def test_disagreeing_segments_keep_their_winners() -> None:
    rates = np.where(np.eye(4) > 0, 0.20, 0.10)
    trials = np.full((4, 4), 3_000.0)
    alpha, beta = pooled_tables(trials * rates, trials, np.full(4, 1 / 4))
    mean = alpha / (alpha + beta)
    assert mean[1:].argmax(1).tolist() == [0, 1, 2, 3]
    assert np.ptp(mean[0]) < 0.002


@pytest.mark.parametrize("shares", [[0.9, 0.1], [0.1, 0.9]])
def test_the_first_row_is_weighted_by_traffic_not_by_how_often_an_arm_was_played(shares: list[float]) -> None:
    """Arm 1 is slightly better everywhere, but played mostly where conversions are rare. Summed counts favour arm 0."""
    trials = np.array([[9_000.0, 1_000.0], [1_000.0, 9_000.0]])
    rates = np.array([[0.18, 0.20], [0.03, 0.06]])
    alpha, beta = pooled_tables(trials * rates, trials, np.array(shares))
    pooled = (trials * rates).sum(0) / trials.sum(0)
    assert pooled[0] > pooled[1]
    mean = alpha[0] / (alpha + beta)[0]
    assert mean[1] > mean[0]
    assert mean == pytest.approx(np.array(shares) @ rates, abs=0.008)
