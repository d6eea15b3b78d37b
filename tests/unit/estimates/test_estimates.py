"""Estimates: checked by hand, unbiased, equal from cells and from rows, and absent where data are few."""

import dataclasses
import math

import numpy as np
import pytest
from scipy import stats

from allocator.defects import InvalidLogError, InvalidTableError
from allocator.estimates import (
    Array,
    Estimate,
    LoggedAssignments,
    adaptive_lift,
    chances,
    expected_loss,
    sample_ratio_p_value,
    segmentation_lift,
    sum_assignments,
    variant_contrast,
    variant_rate,
)
from tests.support.simulate_experiment import CONTROL, Design, simulate

_ARMS = 2


def _log(*cells: tuple[float, ...], periods: int = 1, drawable: Array | None = None) -> LoggedAssignments:
    """Return a log of cells (period, segment, variant, trials, successes, marginal, q_segment, q_global)."""
    columns = [np.array(column) for column in zip(*cells, strict=True)]
    live = np.ones((periods, _ARMS), np.bool_) if drawable is None else drawable
    period, segment, variant = (column.astype(np.int64) for column in columns[:3])
    return sum_assignments(
        period, segment, variant, *(column.astype(float) for column in columns[3:]), control=CONTROL, drawable=live
    )


def test_rate_of_one_period_is_the_inverse_propensity_mean() -> None:
    log = _log((0, 0, 0, 80, 20, 0.8, 0.8, 0.8), (0, 0, 1, 20, 10, 0.2, 0.2, 0.2))
    rate = variant_rate(log, 1)
    assert rate is not None
    assert rate.value == pytest.approx(10 / 0.2 / 100)
    assert rate.standard_error == pytest.approx(math.sqrt(10 / 0.2**2) / 100)
    assert rate.upper - rate.lower == pytest.approx(2 * stats.norm.ppf(0.95) * rate.standard_error)


def test_outcome_model_is_of_earlier_periods_only() -> None:
    log = _log(
        (0, 0, 0, 50, 10, 0.5, 0.5, 0.5),
        (0, 0, 1, 50, 20, 0.5, 0.5, 0.5),
        (1, 0, 0, 90, 30, 0.9, 0.9, 0.9),
        (1, 0, 1, 10, 8, 0.1, 0.1, 0.1),
        periods=2,
    )
    base = (30 + 20 * 0.3) / (100 + 20)
    model = (20 + 20 * base) / (50 + 20)
    np.testing.assert_allclose(log.model[:, 0, 1], [0, model])
    rate = variant_rate(log, 1)
    assert rate is not None
    assert rate.value == pytest.approx((20 / 0.5 + 100 * model + (8 - 10 * model) / 0.1) / 200)
    residuals = 20 / 0.5**2 + (8 * (1 - model) ** 2 + 2 * model**2) / 0.1**2
    assert rate.standard_error == pytest.approx(math.sqrt(residuals) / 200)


def test_contrast_is_the_difference_of_the_rates() -> None:
    log = _log((0, 0, 0, 80, 20, 0.8, 0.8, 0.8), (0, 0, 1, 20, 10, 0.2, 0.2, 0.2))
    rates = variant_rate(log, 1), variant_rate(log, 0)
    contrast = variant_contrast(log, 1, 0)
    assert contrast is not None
    assert rates[0] is not None
    assert rates[1] is not None
    assert contrast.value == pytest.approx(rates[0].value - rates[1].value)
    assert contrast.standard_error == pytest.approx(math.hypot(rates[0].standard_error, rates[1].standard_error))


def test_periods_without_the_variant_are_left_out() -> None:
    late = (1, 0, 0, 50, 20, 0.5, 0.5, 0.5), (1, 0, 1, 50, 25, 0.5, 0.5, 0.5)
    drawable = np.array([[True, False], [True, True]])
    log = _log((0, 0, 0, 1000, 10, 1.0, 1.0, 1.0), *late, periods=2, drawable=drawable)
    rate = variant_rate(log, 1)
    contrast = variant_contrast(log, 0, 1)
    assert rate is not None
    assert contrast is not None
    base = (10 + 20 * 0.01) / (1000 + 20)
    assert rate.value == pytest.approx((100 * base + (25 - 50 * base) / 0.5) / 100)
    assert abs(contrast.value) < 0.15


def test_lifts_by_hand() -> None:
    log = _log((0, 0, 0, 40, 10, 0.4, 0.3, 0.6), (0, 0, 1, 60, 30, 0.6, 0.7, 0.4))
    segmentation, adaptive = segmentation_lift(log), adaptive_lift(log)
    assert segmentation is not None
    assert adaptive is not None
    first, second = -0.3 / 0.4, 0.3 / 0.6
    mean = (10 * first + 30 * second) / 100
    assert segmentation.value == pytest.approx(mean)
    deviation = math.sqrt((10 * first**2 + 30 * second**2) / 100 - mean**2)
    assert segmentation.standard_error == pytest.approx(deviation / 10)
    assert segmentation.degrees == 1  # all of the variance comes from one period
    assert adaptive.value == pytest.approx((10 * (0.3 - 1) / 0.4 + 30 * 0.7 / 0.6) / 100)


@pytest.mark.parametrize(
    ("successes", "q"), [(4, 0.2), (16, 0.2), (10, 0.009)], ids=["few successes", "few failures", "floor below 1 %"]
)
def test_not_enough_data(successes: int, q: float) -> None:
    log = _log((0, 0, 0, 80, 20, 0.8, 1 - q, 1 - q), (0, 0, 1, 20, successes, 0.2, q, q))
    assert variant_rate(log, 1) is None
    assert variant_contrast(log, 0, 1) is None
    assert variant_rate(log, 0) is not None


def test_one_heavy_user_is_not_enough_data() -> None:
    """Of ten successes one weighs as much as all others, so they count as fewer than five."""
    log = _log(
        (0, 0, 0, 90, 20, 0.9, 0.9, 0.9),
        (0, 0, 1, 18, 9, 0.5, 0.5, 0.5),
        (0, 0, 1, 1, 1, 0.05, 0.05, 0.05),
    )
    assert variant_rate(log, 1) is None


def test_no_lift_where_policies_never_differed() -> None:
    assert segmentation_lift(_log((0, 0, 0, 80, 20, 0.5, 0.5, 0.5), (0, 0, 1, 80, 20, 0.5, 0.5, 0.5))) is None


def test_sample_ratio_is_the_chi_square_test_where_propensities_are_constant() -> None:
    cells = [
        (p, 0, k, n, 0, 0.5, 0.5, 0.5) for p, pair in enumerate([(500, 500), (530, 470)]) for k, n in enumerate(pair)
    ]
    p_value = sample_ratio_p_value(_log(*cells, periods=2))
    assert p_value == pytest.approx(stats.chisquare([1030, 970]).pvalue)
    assert sample_ratio_p_value(_log(*[(0, 0, k, 4, 0, 0.5, 0.5, 0.5) for k in range(2)])) is None


def test_sample_ratio_sees_lost_rows() -> None:
    """A tenth of one variant's users is missing in an adaptive experiment's log. The test accepts the whole log."""
    rates = np.full((20, 2, 2), 0.1)
    simulated = simulate(Design(rates, 20_000, 0.05, 0.1, 0.1), np.random.default_rng(4))
    log = simulated.log
    keep = np.array([1.0, 0.9])
    kept = dataclasses.replace(log.inverse, total=log.inverse.total * keep, squares=log.inverse.squares * keep)
    lossy = dataclasses.replace(log, trials=log.trials * keep, successes=log.successes * keep, inverse=kept)
    whole, lost = sample_ratio_p_value(log), sample_ratio_p_value(lossy)
    assert whole is not None
    assert lost is not None
    assert whole > 0.01
    assert lost < 1e-4


@pytest.mark.parametrize("degrees", [4.0, 12.0, math.inf])
def test_interval_is_students(degrees: float) -> None:
    half = float(stats.t.ppf(0.95, degrees))
    estimate = Estimate(1.0, 2.0, degrees)
    assert estimate.lower == pytest.approx(1 - 2 * half, abs=4e-3)
    assert estimate.upper == pytest.approx(1 + 2 * half, abs=4e-3)


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(InvalidLogError, match="marginal"):
        _log((0, 0, 0, 1, 0, 0.0, 0.5, 0.5))
    with pytest.raises(InvalidLogError, match="successes"):
        _log((0, 0, 0, 1, 2, 0.5, 0.5, 0.5))
    with pytest.raises(InvalidLogError, match="q_segment"):
        _log((0, 0, 0, 1, 0, 0.5, math.nan, 0.5))
    with pytest.raises(InvalidTableError, match="alpha"):
        chances(np.array([1.0, math.nan]), np.ones(2))


def test_estimates_have_no_bias() -> None:
    """The mean over 400 experiments with a crossover and a falling base rate is within four standard errors."""
    rates = np.linspace(1.4, 0.6, 8)[:, None, None] * np.array([[0.3, 0.4], [0.4, 0.3]])
    design = Design(rates, users=800, floor=0.05, baseline_share=0.1, holdout_share=0.1)
    errors = []
    for repetition in range(400):
        simulated = simulate(design, np.random.default_rng([5, repetition]))
        log, users = simulated.log, simulated.log.users[:, :, None]
        truth = (users * rates).sum((0, 1)) / users.sum()
        lifts = [
            float((users * policies * rates).sum() / users.sum())
            for policies in (simulated.q_segment - simulated.q_global, simulated.q_segment - [1, 0])
        ]
        estimates = [variant_rate(log, 0), variant_contrast(log, 0, 1), segmentation_lift(log), adaptive_lift(log)]
        truths = [truth[0], truth[0] - truth[1], *lifts]
        errors.append([e.value - t if e else 0.0 for e, t in zip(estimates, truths, strict=True)])
    made = np.array(errors)
    assert (abs(made.mean(0)) < 4 * made.std(0) / math.sqrt(len(made))).all()


def test_cells_and_rows_are_twins() -> None:
    """Grouped and vectorised sums equal sums user by user."""
    rng = np.random.default_rng(11)
    users = 3_000
    period, segment = np.sort(rng.integers(4, size=users)), rng.integers(2, size=users)
    q_segment = np.array([0.2, 0.5, 0.7, 0.9])[(period + segment) % 4]
    q_global = np.array([0.5, 0.6, 0.4, 0.7])[period]
    mixed = 0.2 * q_global + 0.8 * q_segment
    variant = (rng.random(users) >= mixed).astype(np.int64)
    own = [np.where(variant == 0, q, 1 - q) for q in (mixed, q_segment, q_global)]
    success = (rng.random(users) < 0.2 + 0.1 * variant).astype(float)
    live = np.ones((4, _ARMS), np.bool_)
    by_row = sum_assignments(period, segment, variant, np.ones(users), success, *own, control=0, drawable=live)
    keys, group = np.unique(np.stack([period, segment, variant, *own]), axis=1, return_inverse=True)
    cells = (*keys[:3].astype(np.int64), np.bincount(group.ravel()), np.bincount(group.ravel(), success))
    by_cell = sum_assignments(*cells, *keys[3:], control=0, drawable=live)

    model, base = np.zeros(users), np.zeros(users)
    for user in range(users):
        before = period < period[user]
        same = before & (segment == segment[user])
        everyone = success[before].mean() if before.any() else 0.0
        base[user] = (success[same].sum() + 20 * everyone) / (same.sum() + 20)
        same_arm = same & (variant == 1)
        model[user] = (success[same_arm].sum() + 20 * base[user]) / (same_arm.sum() + 20)
    score = np.where(variant == 1, (success - model) / own[0], 0.0)
    psi = (own[1] - own[2]) / own[0] * (success - base)
    for log in (by_row, by_cell):
        rate, lift = variant_rate(log, 1), segmentation_lift(log)
        assert rate is not None
        assert lift is not None
        assert rate.value == pytest.approx((model + score).mean(), rel=1e-12)
        assert rate.standard_error == pytest.approx(math.sqrt((score**2).sum()) / users, rel=1e-12)
        assert lift.value == pytest.approx(psi.mean(), rel=1e-9)
        assert lift.standard_error == pytest.approx(psi.std() / math.sqrt(users), rel=1e-9)
        shares = np.bincount(period, psi**2) / (psi**2).sum()
        assert lift.degrees == pytest.approx(1 / (shares**2).sum(), rel=1e-9)


@pytest.mark.parametrize("scale", [1.0, 1e-2, 1e4])
def test_expected_loss_is_that_of_sampling(scale: float) -> None:
    alpha, beta = np.array([8.0, 10.0, 12.0]) * scale, np.array([92.0, 90.0, 88.0]) * scale
    draws = np.random.default_rng(2).beta(alpha, beta, (200_000, 3))
    losses = draws.max(1)[:, None] - draws
    error = losses.std(0) / math.sqrt(len(losses))
    assert (abs(expected_loss(alpha, beta) - losses.mean(0)) < 4 * error + 1e-12).all()


def test_expected_loss_and_chances_agree_with_the_closed_forms() -> None:
    same = chances(np.array([1.0, 1.0]), np.array([1.0, 1.0]))  # uniform rates: E[max] = 2/3
    np.testing.assert_allclose(same.best, [0.5, 0.5], atol=1e-9)
    np.testing.assert_allclose(same.loss, [1 / 6, 1 / 6], atol=1e-12)
    np.testing.assert_allclose(chances(np.array([3.0]), np.array([5.0])).loss, [0.0], atol=1e-15)
    alpha, beta = np.array([0.1, 300.0, 1e6]), np.array([1.9, 700.0, 9e6])
    means = alpha / (alpha + beta)
    loss = expected_loss(alpha, beta)
    np.testing.assert_allclose(loss + means, (loss + means)[0], atol=1e-9)
