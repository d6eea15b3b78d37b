"""Evidence that one arm is better than all others for everyone."""

from itertools import combinations

import numpy as np

from allocator.segmentation.evidence import (
    ERROR,
    SPREADS,
    Counts,
    day_sums,
    normal_mixture,
    relative_effects,
    value_rates,
)


def winner_everywhere(trials: Counts, successes: Counts) -> tuple[int, float, float] | None:
    """Return the arm that leads every other one, with its evidence. It may be computed at any time.

    ρ is the relative difference of two arms. If they are equally good, the likelihood ratio of ρ ~ N(0, τ²) against
    ρ = 0 is a martingale from 1. So is its mean E over values of τ, and therefore P(ever E ≥ 1/α) ≤ α (Robbins,
    Statistical methods related to the law of the iterated logarithm, Annals of Mathematical Statistics 1970). Users are
    compared by day, as in `allocator.segmentation.evidence`. There are K·(K − 1)/2 pairs, so an error of 5 % for all
    together needs E ≥ K·(K − 1)/2/0.05 for each.

    Args:
        trials, successes: int (days, 1, arms), of mature users.

    Returns:
        The arm, the least E over the other arms, and the E that is needed; None if no arm leads every other one.
    """
    n, y = trials.astype(np.float64), successes.astype(np.float64)
    arms = n.shape[2]
    rates = value_rates(n.sum((0, 2)), y.sum((0, 2)))
    leads, e_values = np.zeros((2, arms, arms))
    for arm, other in combinations(range(arms), 2):
        effects, precisions = relative_effects(*day_sums(n, y, arm, other), rates)
        leads[arm, other], leads[other, arm] = effects[0], -effects[0]
        e_values[arm, other] = e_values[other, arm] = normal_mixture(effects[0], precisions[0], SPREADS)
    for arm in range(arms):
        others = np.arange(arms) != arm
        if arms > 1 and (leads[arm, others] > 0).all():
            return arm, float(e_values[arm, others].min()), arms * (arms - 1) / 2 / ERROR
    return None
