"""Whether one arm is better than all others, for everyone."""

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
    """The arm that leads every other one, with its evidence; it may be asked for at any time.

    Of two arms that are equally good the ratio of likelihoods of their relative difference ρ, N(0, τ²) against 0, is
    a martingale from 1; so is its mean over values of τ, and P(ever E ≥ 1/α) ≤ α (Robbins, Statistical methods related
    to the law of the iterated logarithm, 1970). Users are compared by day, as in `allocator.evidence`. K·(K − 1)/2
    pairs at 5 % together need E ≥ K·(K − 1)/2/0.05 each.

    Args:
        trials, successes: int (days, 1, arms), of matured users.

    Returns:
        The arm, the least E over the others, and what that must reach; None where no arm leads every other.
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
