"""Conversion rates of variants, and their contrasts, free of the bias of adaptive sampling.

Plain means of adaptive data are too low for variants that were drawn less after bad luck, and they mix segments and
days as the allocation did. These are augmented inverse-propensity estimates with uniform weights. Let
ξ = m̂ + 1{A = k}/p̄·(y − m̂). Then E[ξ | the past] is the rate of k, because m̂ and p̄ are functions of the past. So the
mean of ξ is unbiased, its errors are a martingale, and it is asymptotically normal if p̄ is bounded below (Hadad,
Hirshberg, Zhan, Wager and Athey, Confidence intervals for policy evaluation in adaptive experiments, PNAS 2021, with
h = 1).

Contrasts have uniform weights too. With the h = (1/p̄_k + 1/p̄_j)^(−½) of that paper, intervals are 8-15 % shorter. But
in three designs of 4 segments with a floor of 1 % (1,000 runs each), intervals with a nominal 90 % covered the truth in
84-89 % of the runs with h normalised in each segment, in 87-90 % with h normalised over all, and in 89-91 % with
uniform weights. The reason is that Σh depends on the early chance that it should outweigh. Besides, h needs the
propensities of variants that were not drawn, and the contrast would not be the difference of the rates that are shown.
"""

from collections.abc import Mapping

import numpy as np

from allocator.estimates.estimate import Estimate, enough
from allocator.estimates.log import LoggedAssignments, WeightSums

_LEAST_FLOOR = 0.01 * (1 - 1e-9)


def variant_rate(log: LoggedAssignments, variant: int, segment: int | None = None) -> Estimate | None:
    """Estimate the rate at which the users of the log would have converted if all had got this variant.

    Args:
        log: of the experiment. Periods in which the variant could not be drawn are left out.
        variant: its index.
        segment: the index of a segment; None for all users.

    Returns:
        None if there are too few data (see `enough`), or if the variant was ever drawn with a probability below 1 %.
    """
    return _combination(log, {variant: 1.0}, segment)


def variant_contrast(log: LoggedAssignments, variant: int, other: int, segment: int | None = None) -> Estimate | None:
    """Estimate how much more often the users of the log would have converted with `variant` than with `other`.

    It covers the periods in which both could be drawn. So it is the difference of their `variant_rate`, unless one of
    them was added or retired. The arguments are those of `variant_rate`; the result is None if one of the two is.
    """
    return _combination(log, {variant: 1.0, other: -1.0}, segment)


def _combination(log: LoggedAssignments, factors: Mapping[int, float], segment: int | None) -> Estimate | None:
    """Estimate Σ_k c_k·(rate of k), with SE² = Σ_i Σ_k c_k²·1{A = k}/p̄²·(y − m̂)²/n²: no user is in two terms."""
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
