"""Effective trials of immature users and of days with high base rates, which raw counts get wrong."""

from datetime import date, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from allocator.estimates.chi_square import chi_square_tail
from allocator.posterior.effective_trials import (
    ALL_MATURE,
    DELAY_STEPS,
    Count,
    ImmatureCount,
    ImmatureUsers,
    day_factors,
    delay_distribution,
    effective_counts,
)

DAY = date(2026, 3, 1)


def exponential_delays(mean_steps: float, conversions: int) -> list[int]:
    edges = stats.expon.cdf(np.arange(DELAY_STEPS + 1), scale=mean_steps)
    return np.round(np.diff(edges) / edges[-1] * conversions).astype(int).tolist()


@given(st.floats(0, 300), st.integers(1, 60))
def test_the_tail_of_chi_square(statistic: float, degrees: int) -> None:
    assert chi_square_tail(statistic, degrees) == pytest.approx(stats.chi2.sf(statistic, degrees), rel=1e-6, abs=1e-12)


def test_a_delay_distribution_needs_conversions() -> None:
    assert delay_distribution({}) is None
    assert delay_distribution({0: exponential_delays(8, 60), 1: exponential_delays(8, 30)}) is None
    known = delay_distribution({0: exponential_delays(8, 600), 1: exponential_delays(8, 300)})
    assert known is not None
    assert (known[0], known[-1]) == (0.0, 1.0)
    assert known[8] == pytest.approx(stats.expon.cdf(8, scale=8) / stats.expon.cdf(32, scale=8), abs=0.01)


def test_delays_that_differ_between_variants_are_not_pooled() -> None:
    assert delay_distribution({0: exponential_delays(4, 500), 1: exponential_delays(12, 500)}) is None


def test_equal_delays_are_taken_as_different_once_in_a_thousand_times() -> None:
    """Of 2,000 draws, at most 8 of an expected 2 (P = 0.0002)."""
    rng = np.random.default_rng(7)
    p = np.array(exponential_delays(8, 10_000)) / 10_000
    different = sum(
        delay_distribution({arm: rng.multinomial(size, p / p.sum()).tolist() for arm, size in enumerate((40, 90, 400))})
        is None
        for _ in range(2_000)
    )
    assert different <= 8


def steady_traffic(
    days: float, rate: float, maturity_days: float, delay_share: float
) -> tuple[list[Count], ImmatureUsers]:
    """Return counts of an arm with 1,000 users a day. Conversions take about `delay_share` of the maturity."""
    known = delay_distribution({0: exponential_delays(delay_share * DELAY_STEPS, 10_000)})
    assert known is not None
    counts: list[Count] = []
    immature: list[ImmatureCount] = []
    step = maturity_days / DELAY_STEPS
    for cohort in range(round(days / step)):
        age = (days / step - cohort - 0.5) / DELAY_STEPS
        users = round(1_000 * step)
        come = 1.0 if age >= 1 else float(np.interp(age * DELAY_STEPS, range(DELAY_STEPS + 1), known))
        count = Count(0, 0, DAY + timedelta(int(cohort * step)), users, round(users * rate * come))
        counts.append(count)
        if age < 1:
            immature.append(ImmatureCount(count, age))
    return counts, ImmatureUsers(immature, {0: exponential_delays(delay_share * DELAY_STEPS, 10_000)})


@pytest.mark.parametrize("days", [7.5, 9, 30])
def test_late_conversions_do_not_bend_the_rate(days: float) -> None:
    """The rate is 10 %, the maturity 7 days. Counting "converted, or old enough" would give over 40 % on day 7.5."""
    counts, immature = steady_traffic(days, 0.10, 7, 0.2)
    effective = effective_counts([0], counts, immature)
    assert effective.successes.sum() / effective.effective_trials.sum() == pytest.approx(0.10, abs=0.004)
    converted_or_old = effective.trials.sum() + sum(young.count.successes for young in immature.counts)
    assert days > 8 or effective.successes.sum() / converted_or_old > 0.4
    assert effective.users.sum() == pytest.approx(1_000 * days, rel=0.01)
    assert effective.trials.sum() == pytest.approx(1_000 * (days - 7), rel=0.15)


def test_without_a_delay_distribution_only_mature_users_count() -> None:
    counts, immature = steady_traffic(9, 0.10, 7, 0.2)
    effective = effective_counts([0], counts, ImmatureUsers(immature.counts))
    assert effective.effective_trials.sum() == pytest.approx(effective.trials.sum())
    assert effective.successes.sum() / effective.trials.sum() == pytest.approx(0.10, abs=0.004)


def test_counts_are_summed_by_segment_and_variant_and_others_left_out() -> None:
    counts = [Count(5, 1, DAY, 10, 1), Count(2, 0, DAY, 20, 2), Count(5, 1, DAY, 30, 3), Count(2, 7, DAY, 99, 9)]
    effective = effective_counts([0, 1], counts, ALL_MATURE)
    assert effective.segments == (2, 5)
    assert effective.trials.tolist() == [[20, 0], [0, 40]]
    assert effective.successes.tolist() == [[2, 0], [0, 4]]
    assert effective.users.tolist() == [20, 40]


def test_the_days_factor_follows_the_base_rate_whatever_was_drawn() -> None:
    """Arms convert at 10 and 20 %, the better one is played more and more, and rates fall to half."""
    level = np.array([1.0, 1.0, 0.5])
    trials = np.array([[9_000.0, 1_000.0], [5_000.0, 5_000.0], [1_000.0, 9_000.0]])
    factors = day_factors(trials, trials * level[:, None] * [0.10, 0.20])
    assert factors[0] == pytest.approx(factors[1], rel=0.02)
    assert factors[2] / factors[0] == pytest.approx(0.5, rel=0.02)
    assert (factors * trials.sum(1)).sum() == pytest.approx(trials.sum())


def test_a_better_arm_played_more_is_not_taken_for_better_days() -> None:
    trials = np.array([[9_000.0, 1_000.0], [1_000.0, 9_000.0]])
    assert day_factors(trials, trials * [0.10, 0.20]) == pytest.approx([1, 1], abs=0.02)


def test_thin_days_keep_their_weight() -> None:
    trials = np.array([[2_000.0, 2_000.0], [3.0, 3.0]])
    successes = np.array([[200.0, 200.0], [3.0, 0.0]])
    assert day_factors(trials, successes)[1] == pytest.approx(1, abs=0.7)
