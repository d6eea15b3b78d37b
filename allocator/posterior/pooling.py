"""Hierarchically pooled posteriors: one Beta distribution per (segment, arm), and one per arm for everyone.

The model is logit θ_sk = μ_s + a_k + δ_sk with a ~ N(0, 0.3²), μ_s ~ N(m₀, 0.5²), δ ~ N(0, τ²), τ ∈ {0, 0.25} with
equal prior weights. It is fitted by Fisher scoring with backfitting; the background is Gelman and Hill, Data Analysis
Using Regression and Multilevel/Hierarchical Models, ch. 12-14. Segments that agree share their sample size, and
segments that differ keep their own rates. Decisions are drawn from these tables; they are not made for intervals.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from allocator.posterior.checks import check_counts, check_traffic

Array = NDArray[np.float64]

_ARM_PRECISION = 1 / 0.3**2
_SEGMENT_PRECISION = 1 / 0.5**2
_SPREADS = (0.0, 0.25)
_LEAST_SWEEPS, _MOST_SWEEPS = 4, 40
_BACKFITS = 3
_LONGEST_STEP = 1.0  # logits; longer steps of Fisher scoring can overshoot and then diverge
_SETTLED = 0.05  # logits; the fit ends when no step is longer
_SHARPNESS = 0.7  # below 1, so that the tables are more concentrated than the posterior
_MIN_CONCENTRATION = 2.0
_MAX_CONCENTRATION = 1e9  # the kernels draw and integrate shapes up to this


class _Fit(NamedTuple):
    log_weight: float
    mean: Array  # (S, K) logits
    own_variance: Array  # (S, K) variance of the part that a cell does not share with its arm
    arm_share: Array  # (S, K) share of the error of the arm that a cell has too
    arm_variance: Array  # (K,) variance of the error of the arm


def pooled_tables(successes: Array, trials: Array, shares: Array) -> tuple[Array, Array]:
    """Return the Beta tables of everyone and of every segment.

    Args:
        successes: float64 (S, K), ≥ 0.
        trials: float64 (S, K), ≥ 0: effective trials.
        shares: float64 (S,), ≥ 0: the share of the traffic that each segment has. They sum to 1.

    Returns:
        alpha and beta, float64 (S + 1, K). Row 0 is for everyone, and row s + 1 is for segment s.

    Raises:
        InvalidTableError: the counts are not counts, or the shares do not sum to 1.
    """
    check_counts(successes, trials)
    check_traffic(shares, successes.shape[0])
    fits = [_fit(successes, trials, tau) for tau in _SPREADS]
    log_weights = np.array([fit.log_weight for fit in fits])
    weights = np.exp(log_weights - log_weights.max())
    weights /= weights.sum()
    cells = _collapse(
        weights,
        np.stack([fit.mean for fit in fits]),
        np.stack([fit.own_variance + fit.arm_share**2 * fit.arm_variance for fit in fits]),
    )
    everyone = _everyone(weights, fits, shares)
    return np.vstack([everyone[0], cells[0]]), np.vstack([everyone[1], cells[1]])


def _fit(successes: Array, trials: Array, tau: float) -> _Fit:
    segments, arms = successes.shape
    base = (successes.sum() + 1) / (trials.sum() + 10)
    mu = np.full(segments, _logit(base))
    arm = np.zeros(arms)
    center = float(mu.mean())
    rate = np.divide(successes, trials, out=np.zeros_like(successes), where=trials > 0)
    for sweep in range(_MOST_SWEEPS):
        eta = mu[:, None] + arm
        expected = _sigmoid(eta)
        information = expected * (1 - expected)
        w = trials * information
        z = eta + np.where(trials > 0, (rate - expected) / information, 0.0)
        weight = w / (1 + w * tau**2)
        before = mu, arm
        for _ in range(_BACKFITS):
            mu = (center * _SEGMENT_PRECISION + (weight * (z - arm)).sum(1)) / (_SEGMENT_PRECISION + weight.sum(1))
            arm = (weight * (z - mu[:, None])).sum(0) / (_ARM_PRECISION + weight.sum(0))
            center = float(mu.mean())
        mu, mu_step = _step(before[0], mu)
        arm, arm_step = _step(before[1], arm)
        center = float(mu.mean())
        if sweep + 1 >= _LEAST_SWEEPS and max(mu_step, arm_step) < _SETTLED:
            break
    residual = z - mu[:, None] - arm
    shrink = w * tau**2 / (1 + w * tau**2)
    log_weight = 0.5 * float(
        (np.log1p(-shrink) - weight * residual**2).sum()
        - np.log(_SEGMENT_PRECISION + weight.sum(1)).sum()
        - np.log(_ARM_PRECISION + weight.sum(0)).sum()
        - ((mu - center) ** 2).sum() * _SEGMENT_PRECISION
        - (arm**2).sum() * _ARM_PRECISION
    )
    return _Fit(
        log_weight,
        mean=_own_means(successes, trials, mu[:, None] + arm, tau),
        own_variance=tau**2 * (1 - shrink),
        arm_share=1 - shrink,
        arm_variance=1 / (_ARM_PRECISION + weight.sum(0)),
    )


def _step(old: Array, new: Array) -> tuple[Array, float]:
    """Go towards the new values, by 1 logit at most. Return where that leads, and the length of the longest step."""
    step = np.clip(new - old, -_LONGEST_STEP, _LONGEST_STEP)
    return old + step, float(np.abs(step).max())


def _own_means(successes: Array, trials: Array, shared: Array, tau: float) -> Array:
    """Return the logit of each cell, which differs from the shared one by N(0, τ²): the mode, by Newton's method."""
    own = np.zeros_like(shared)
    if tau == 0:
        return shared
    for _ in range(_MOST_SWEEPS):
        expected = _sigmoid(shared + own)
        slope = trials * expected * (1 - expected) + 1 / tau**2
        own, longest = _step(own, own + (successes - trials * expected - own / tau**2) / slope)
        if longest < _SETTLED:
            break
    return shared + own


def _everyone(weights: Array, fits: list[_Fit], shares: Array) -> tuple[Array, Array]:
    """Return the Beta shapes of everyone: the rate that each arm would have if it got all the traffic.

    The variances follow by the delta method.
    """
    rates, variances = [], []
    for fit in fits:
        p = _sigmoid(fit.mean)
        slope = shares[:, None] * p * (1 - p)
        rates.append((shares[:, None] * p).sum(0))
        variances.append((slope * fit.arm_share).sum(0) ** 2 * fit.arm_variance + (slope**2 * fit.own_variance).sum(0))
    rate = np.tensordot(weights, np.stack(rates), 1)
    variance = np.tensordot(weights, np.stack(variances) + (np.stack(rates) - rate) ** 2, 1)
    return _beta(rate, variance / (rate * (1 - rate)))


def _collapse(weights: Array, means: Array, variances: Array) -> tuple[Array, Array]:
    """Return the shapes of one Beta distribution in place of a mixture over τ of normals on the logit scale."""
    mean = np.tensordot(weights, means, 1)
    variance = np.tensordot(weights, variances + (means - mean) ** 2, 1)
    p = _sigmoid(mean)
    return _beta(p, variance * p * (1 - p))


def _beta(p: Array, scaled_variance: Array) -> tuple[Array, Array]:
    """Return the shapes of the Beta distribution with mean p and variance 0.7·p(1 − p)·scaled_variance."""
    concentration = np.clip(1 / (_SHARPNESS * scaled_variance) - 1, _MIN_CONCENTRATION, _MAX_CONCENTRATION)
    return p * concentration, (1 - p) * concentration


def _logit(p: float) -> float:
    return float(np.log(p / (1 - p)))


def _sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))
