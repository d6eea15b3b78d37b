"""The lift that is expected if each value of a dimension has an arm of its own, instead of one arm for everyone."""

import math

import numpy as np
from numpy.typing import NDArray

from allocator.estimates import Estimate
from allocator.posterior.effective_trials import day_factors
from allocator.posterior.pooling import pooled_tables
from allocator.segmentation.evidence import Array, Counts, day_sums, value_rates

_CORRELATION = 1 / math.pi  # of the estimates of both halves; the largest that it can be


def expected_lift(trials: Counts, successes: Counts, groups: NDArray[np.int64] | None = None) -> Estimate | None:
    """Return how much more often users would convert if each value had its best arm, instead of one arm a group.

    The estimate is cross-fitted. Every other day chooses the arms, by the tables that would serve. The days between
    judge the choice by Σ_x w_x·d_x: w_x is the share of the traffic that the value x has, and d_x is the difference
    between its arm and the arm of its group, for users who came on the same day (as in
    `allocator.segmentation.evidence`). Then the two halves of the days swap their parts. The principle is that of
    Chernozhukov et al., Double/debiased machine learning, Econometrics Journal 2018. The result is the lift of a policy
    that half of the data chose, a little below the lift of a policy that all data choose. A value without users on the
    judging days counts as 0.

    The two halves are not independent if two arms are tied over all values: chance in one half decides which of the two
    arms the other half is compared with. Let w be the error of the difference of the arms over all values, and u the
    error of half the difference between the values. Then the covariance is (E|w|)² = 2/π·Var(w), out of Var(u) +
    Var(w), which is a correlation of 1/π if both variances are equal. That correlation is used always, so the intervals
    are a little too wide elsewhere.

    Args:
        trials, successes: int (days, values, arms), of mature users.
        groups: int (values,), the group of each value, from 0, none of them empty. All values are one group if it is
            left out.

    Returns:
        None if there are fewer than two days with users, or if no value has a best arm other than that of its group.
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
        float(np.mean(values)), math.sqrt(sum(variances) + 2 * _CORRELATION * math.sqrt(math.prod(variances))) / 2
    )


def _choices(n: Array, y: Array, groups: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the best arm of each value, and the best arm of its group: int64 (values,) each."""
    trials = (n * day_factors(n.sum(1), y.sum(1))[:, None, None]).sum(0)
    own = _best(trials, y.sum(0), n.sum((0, 2)))
    if not groups.any():
        return own[1:], np.full(len(groups), own[0])
    members = np.eye(groups.max() + 1)[groups].T  # (groups, values)
    of_group = _best(members @ trials, members @ y.sum(0), members @ n.sum((0, 2)))
    return own[1:], of_group[1:][groups]


def _best(trials: Array, successes: Array, users: Array) -> NDArray[np.int64]:
    """Return the best arm for everyone, then the best arm of each row."""
    alpha, beta = pooled_tables(successes, trials, users / users.sum())
    best: NDArray[np.int64] = (alpha / (alpha + beta)).argmax(1)
    return best


def _judge(n: Array, y: Array, own: NDArray[np.int64], of_group: NDArray[np.int64]) -> tuple[float, float]:
    """Return the lift of `own` over `of_group`, and its variance."""
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
