"""Conversion rates of variants, and their contrasts, free of the bias of adaptive sampling.

Sample means of adaptive data read low for variants that were dropped after bad luck, and mix segments and days as the
allocation did. These are augmented inverse-propensity estimates with uniform weights: with ξ = m̂ + 1{A = k}/p̄·(y − m̂),
E[ξ | the past] is the rate of k, since m̂ and p̄ are functions of the past; so the mean of ξ is unbiased, its errors are
a martingale, and it is asymptotically normal where p̄ is bounded below (Hadad, Hirshberg, Zhan, Wager and Athey,
Confidence intervals for policy evaluation in adaptive experiments, PNAS 2021, with h = 1).

Contrasts have uniform weights too. With that paper's h = (1/p̄_k + 1/p̄_j)^(−½) intervals are 8-15 % shorter, but in
three designs of 4 segments with a floor of 1 % (1,000 runs each) they covered 84-89 % at a nominal 90 % with h
normalised in each segment, 87-90 % with h normalised over all, 89-91 % with uniform weights: Σh is chosen by the early
luck that it should outweigh. It also needs the propensities of variants not drawn, and
is not the difference of the rates shown.
"""

from collections.abc import Mapping

import numpy as np

from allocator.estimates.estimate import Estimate, enough
from allocator.estimates.log import LoggedAssignments, WeightSums

_LEAST_FLOOR = 0.01 * (1 - 1e-9)


def variant_rate(log: LoggedAssignments, variant: int, segment: int | None = None) -> Estimate | None:
    """The rate at which the users of the log would have converted, had they all been given this variant.

    Args:
        log: of the experiment.
        variant, segment: indices; no segment means all, by their traffic. Periods in which the variant could not be
            drawn are left out.

    Returns:
        None if the data are too few to say: see `enough`, or where the variant was drawn with less than 1 %.
    """
    return _combination(log, {variant: 1.0}, segment)


def variant_contrast(log: LoggedAssignments, variant: int, other: int, segment: int | None = None) -> Estimate | None:
    """How much more often the users of the log would have converted with `variant` than with `other`.

    Over the periods in which both could be drawn, so it is the difference of two `variant_rate` unless one was added
    or retired. Arguments and None as there; None if either variant has too few data.
    """
    return _combination(log, {variant: 1.0, other: -1.0}, segment)


def _combination(log: LoggedAssignments, factors: Mapping[int, float], segment: int | None) -> Estimate | None:
    """Σ_k c_k·(rate of k), and SE² = Σ_i Σ_k c_k²·1{A = k}/p̄²·(y − m̂)²/n²: no user is in two terms."""
    rows = slice(None) if segment is None else slice(segment, segment + 1)
    variants = list(factors)
    periods = log.drawable[:, variants].all(1)
    if any(log.lowest[variant] < _LEAST_FLOOR for variant in variants):
        return None
    users = log.users[periods, rows]
    total, variance = 0.0, 0.0
    for variant, factor in factors.items():
        sums = WeightSums(
            log.inverse.total[periods, rows, variant],
            log.inverse.won[periods, rows, variant],
            log.inverse.squares[periods, rows, variant],
            log.inverse.squares_won[periods, rows, variant],
        )
        if not enough(sums):
            return None
        model = log.model[periods, rows, variant]
        total += factor * float((users * model + sums.residuals(model)).sum())
        variance += factor**2 * float(sums.squared_residuals(model).sum())
    return Estimate(total / float(users.sum()), float(np.sqrt(variance)) / float(users.sum()))
