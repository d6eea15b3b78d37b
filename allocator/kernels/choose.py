"""Thompson sampling, compiled: for one decision, or for each user of a batch.

A Beta(α, β) variate is θ = X/(X + Y) with Gamma variates X of shape α and Y of shape β. The order of θ is the order of
X/Y, so arms are compared by X/Y: by cross-multiplication, or in logarithms if a shape below 1 could underflow.
"""

import math

import numpy as np
from numba import njit, uint64
from numpy.typing import NDArray

from allocator.kernels.random import gamma_constants, next_gamma, next_log_gamma, next_uniform


def beta_constants(alpha: NDArray[np.float64], beta: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the constants that draws from Beta tables need: float64 (rows, arms, 2, 4) from (rows, arms), all > 0."""
    return np.ascontiguousarray(gamma_constants(np.stack([alpha, beta], axis=-1)))


@njit(cache=True)
def draw_best_arm(constants, row, floor, first, second):  # type: ignore[no-untyped-def]
    """Draw θ for every arm of a table's row and return the index of the largest.

    Args:
        constants: `beta_constants` of the tables.
        row: index of the row.
        floor: the least probability of each arm, with arms·floor ≤ 1. The draw is a mixture: the probability of arm a
            is floor + (1 − arms·floor)·P(a is best).
        first, second: the seed words of the decision, int64.
    """
    arms = constants.shape[1]
    seed = uint64(first)
    gamma = uint64(second) | uint64(1)
    u, counter = next_uniform(seed, gamma, uint64(1))
    if u < arms * floor:
        return min(int(u / floor), arms - 1)
    for arm in range(arms):
        if constants[row, arm, 0, 3] + constants[row, arm, 1, 3] > 0.0:
            return _draw_in_logs(constants[row], seed, gamma, counter)
    best = 0
    best_x, best_y = 0.0, 1.0
    for arm in range(arms):
        d, c, squeeze = constants[row, arm, 0, 0], constants[row, arm, 0, 1], constants[row, arm, 0, 2]
        x, counter = next_gamma(d, c, squeeze, seed, gamma, counter)
        d, c, squeeze = constants[row, arm, 1, 0], constants[row, arm, 1, 1], constants[row, arm, 1, 2]
        y, counter = next_gamma(d, c, squeeze, seed, gamma, counter)
        better = x * best_y > best_x * y  # selects instead of branches, which the processor could not predict
        best = arm if better else best
        best_x = x if better else best_x
        best_y = y if better else best_y
    return best


@njit(cache=True)
def _draw_in_logs(constants, seed, gamma, counter):  # type: ignore[no-untyped-def]
    best = 0
    largest = -math.inf
    for arm in range(constants.shape[0]):
        x, counter = next_log_gamma(constants[arm, 0], seed, gamma, counter)
        y, counter = next_log_gamma(constants[arm, 1], seed, gamma, counter)
        if x - y > largest:
            best, largest = arm, x - y
    return best


@njit(cache=True)
def draw_best_arms(constants, rows, floor, seeds):  # type: ignore[no-untyped-def]
    """Draw an arm for each user of a batch, the same as `draw_best_arm` does one by one.

    Args:
        constants, floor: as in `draw_best_arm`.
        rows: int64 (users,), the row of each user.
        seeds: int64 (users, 2), the seed words of each decision.

    Returns:
        int64 (users,), the arm of each user.
    """
    drawn = np.empty(rows.size, np.int64)
    for user in range(rows.size):
        drawn[user] = draw_best_arm(constants, rows[user], floor, seeds[user, 0], seeds[user, 1])
    return drawn
