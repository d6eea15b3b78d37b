"""Thompson sampling of one decision, compiled."""

import math

from numba import njit, uint64

from allocator.kernels.random import next_beta_logit, next_uniform


@njit(cache=True)
def draw_best_arm(alpha, beta, row, floor, first, second):  # type: ignore[no-untyped-def]
    """Draw θ for every arm of a table's row and return the index of the largest.

    Args:
        alpha, beta: float64 (rows, arms), all > 0.
        row: which row.
        floor: probability with which each arm is drawn uniformly instead, arms·floor ≤ 1 (a mixture: the chance of
            arm a is floor + (1 − arms·floor)·P(a is best)).
        first, second: the decision's seed words.
    """
    arms = alpha.shape[1]
    gamma = uint64(second) | uint64(1)
    counter = 1
    u, counter = next_uniform(first, gamma, counter)
    if u < arms * floor:
        return min(int(u / floor), arms - 1)
    best = 0
    best_logit = -math.inf
    for arm in range(arms):
        logit, counter = next_beta_logit(alpha[row, arm], beta[row, arm], first, gamma, counter)
        if logit > best_logit:
            best_logit = logit
            best = arm
    return best
