"""Hierarchically pooled posteriors: one Beta per (segment, arm), and one per arm for everyone.

Model: logit θ_sk = μ_s + a_k + δ_sk with a ~ N(0, 0.3²), μ_s ~ N(m₀, 0.5²), δ ~ N(0, τ²), τ ∈ {0, 0.25} with equal
prior weights; fitted by Fisher scoring with backfitting (Gelman and Hill, Data Analysis Using Regression and
Multilevel/Hierarchical Models, ch. 12-14, is the background). It keeps the sample size of segments that agree
without losing those that differ. The tables decide; they are not for intervals.
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
_LONGEST_STEP = 1.0  # logits: Fisher scoring from far away would overshoot, and not come back
_SETTLED = 0.05  # logits
_SHARPNESS = 0.7  # of deciding: less than 1 concentrates the tables
_MIN_CONCENTRATION = 2.0
_MAX_CONCENTRATION = 1e9  # the kernels draw and integrate shapes up to this


class _Fit(NamedTuple):
    log_weight: float
    mean: Array  # (S, K) logits
    own_variance: Array  # (S, K) of what a cell does not share with its arm
    arm_share: Array  # (S, K) how much of the arm's error a cell inherits
    arm_variance: Array  # (K,)


def pooled_tables(successes: Array, exposure: Array, shares: Array) -> tuple[Array, Array]:
    """Beta tables of every segment, under a first row for everyone.

    Args:
        successes: float64 (S, K), ≥ 0.
        exposure: float64 (S, K), ≥ 0: trials, corrected for drift.
        shares: float64 (S,), ≥ 0: each segment's share of traffic, summing to 1.

    Returns:
        alpha and beta, float64 (S + 1, K). Row 0 is for everyone, row s + 1 for segment s.

    Raises:
        InvalidTableError: counts that are not counts, or shares that do not sum to 1.
    """
    check_counts(successes, exposure)
    check_traffic(shares, successes.shape[0])
    fits = [_fit(successes, exposure, tau) for tau in _SPREADS]
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


def _fit(successes: Array, exposure: Array, tau: float) -> _Fit:
    segments, arms = successes.shape
    base = (successes.sum() + 1) / (exposure.sum() + 10)
    mu = np.full(segments, _logit(base))
    arm = np.zeros(arms)
    center = float(mu.mean())
    rate = np.divide(successes, exposure, out=np.zeros_like(successes), where=exposure > 0)
    for sweep in range(_MOST_SWEEPS):
        eta = mu[:, None] + arm
        expected = _sigmoid(eta)
        information = expected * (1 - expected)
        w = exposure * information
        z = eta + np.where(exposure > 0, (rate - expected) / information, 0.0)
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
        mean=_own_means(successes, exposure, mu[:, None] + arm, tau),
        own_variance=tau**2 * (1 - shrink),
        arm_share=1 - shrink,
        arm_variance=1 / (_ARM_PRECISION + weight.sum(0)),
    )


def _step(old: Array, new: Array) -> tuple[Array, float]:
    """Towards the new values, no further than is safe; and the longest step."""
    step = np.clip(new - old, -_LONGEST_STEP, _LONGEST_STEP)
    return old + step, float(np.abs(step).max())


def _own_means(successes: Array, exposure: Array, shared: Array, tau: float) -> Array:
    """The logits of cells that may differ from what they share by N(0, τ²): the modes, by Newton's method."""
    own = np.zeros_like(shared)
    if tau == 0:
        return shared
    for _ in range(_MOST_SWEEPS):
        expected = _sigmoid(shared + own)
        slope = exposure * expected * (1 - expected) + 1 / tau**2
        own, longest = _step(own, own + (successes - exposure * expected - own / tau**2) / slope)
        if longest < _SETTLED:
            break
    return shared + own


def _everyone(weights: Array, fits: list[_Fit], shares: Array) -> tuple[Array, Array]:
    """The rates that each arm would have if it served all the traffic, and their errors by the delta method."""
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
    """One Beta for a mixture over τ of normals on the logit scale."""
    mean = np.tensordot(weights, means, 1)
    variance = np.tensordot(weights, variances + (means - mean) ** 2, 1)
    p = _sigmoid(mean)
    return _beta(p, variance * p * (1 - p))


def _beta(p: Array, scaled_variance: Array) -> tuple[Array, Array]:
    """The Beta of mean p whose variance is p(1 − p)·scaled_variance, sharpened."""
    concentration = np.clip(1 / (_SHARPNESS * scaled_variance) - 1, _MIN_CONCENTRATION, _MAX_CONCENTRATION)
    return p * concentration, (1 - p) * concentration


def _logit(p: float) -> float:
    return float(np.log(p / (1 - p)))


def _sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))
