"""What choosing by value would bring over one arm for everyone, told by users who did not choose."""

import math

import numpy as np
from numpy.typing import NDArray

from allocator.estimates import Estimate
from allocator.posterior.effective_trials import day_factors
from allocator.posterior.pooling import pooled_tables
from allocator.segmentation.evidence import Array, Counts, day_sums, value_rates

_SHARED = 1 / math.pi  # the largest correlation of the halves


def expected_lift(trials: Counts, successes: Counts, groups: NDArray[np.int64] | None = None) -> Estimate | None:
    """How much more often users would convert if each value had its best arm, rather than each group of values one.

    Cross-fitted: every other day chooses the arms, by the tables that would serve, and the days between judge them:
    Σ_x w_x·d_x, w_x the traffic share of the value x, d_x the difference of its arm to that of its group, of users who
    came on the same day (as in `allocator.evidence`), and then the other way round (Chernozhukov et al.,
    Double/debiased machine learning, Econometrics Journal 2018, for the principle). So it is the lift of a policy
    that half of the data chose, a little below that of one that all of them chose. Values of which the judging days
    know nothing count as 0.

    The halves are not independent where two arms are tied over all values: which of them the other half is compared
    with depends on the luck of one's own. With w the error of the difference of the arms over all values, and u that
    of half the difference between the values, their covariance is (E|w|)² = 2/π·Var(w), out of Var(u) + Var(w): a
    correlation of 1/π where both are alike. It is taken to be that, so that intervals are a little wide elsewhere.

    Args:
        trials, successes: int (days, values, arms), of matured users.
        groups: int (values,), from 0, each with a value; all are one group if left out.

    Returns:
        None where there are fewer than two days with users, or where no value wants an arm of its own.
    """
    groups = np.zeros(trials.shape[1], np.int64) if groups is None else groups
    with_users = trials.sum((1, 2)) > 0
    n, y = trials[with_users].astype(np.float64), successes[with_users].astype(np.float64)
    if len(n) < 2:
        return None
    halves = np.arange(len(n)) % 2 == 0
    values, variances = [], []
    for chooses in (halves, ~halves):
        own, of_group = _choices(n[chooses], y[chooses], groups)
        value, variance = _judge(n[~chooses], y[~chooses], own, of_group)
        values.append(value)
        variances.append(variance)
    if not any(variances):
        return None
    return Estimate(
        float(np.mean(values)), math.sqrt(sum(variances) + 2 * _SHARED * math.sqrt(math.prod(variances))) / 2
    )


def _choices(n: Array, y: Array, groups: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The best arm of each value, and the best of its group."""
    exposure = (n * day_factors(n.sum(1), y.sum(1))[:, None, None]).sum(0)
    own = _best(exposure, y.sum(0), n.sum((0, 2)))
    if not groups.any():
        return own[1:], np.full(len(groups), own[0])
    members = np.eye(groups.max() + 1)[groups].T  # (groups, values)
    of_group = _best(members @ exposure, members @ y.sum(0), members @ n.sum((0, 2)))
    return own[1:], of_group[1:][groups]


def _best(exposure: Array, successes: Array, users: Array) -> NDArray[np.int64]:
    """The best arm for everyone, then of each row."""
    alpha, beta = pooled_tables(successes, exposure, users / users.sum())
    best: NDArray[np.int64] = (alpha / (alpha + beta)).argmax(1)
    return best


def _judge(n: Array, y: Array, own: NDArray[np.int64], of_group: NDArray[np.int64]) -> tuple[float, float]:
    """The lift, and its variance."""
    users = n.sum((0, 2))
    rates = value_rates(users, y.sum((0, 2)))
    lift, variance = 0.0, 0.0
    for value in np.flatnonzero(own != of_group):
        information, difference = day_sums(n[:, [value]], y[:, [value]], int(own[value]), int(of_group[value]))
        if information[0] > 0:
            share = users[value] / users.sum()
            lift += share * difference[0] / information[0]
            variance += share**2 * rates[value] * (1 - rates[value]) / information[0]
    return float(lift), float(variance)
