"""The lifts that adaptive allocation and segmentation have brought: contrasts of two policies, measured on all users.

With two policies q and q′ the mean of ψ = (q(A) − q′(A))/p̄(A)·(y − m̂(x)) estimates how much more often users convert
under q than under q′, since E[ψ | the past, x] = Σ_a (q(a) − q′(a))·θ_a(x): m̂ drops out because q and q′ both sum to 1.
It is the efficient difference of two policy values (Dudík, Erhan, Langford and Li, Doubly robust policy evaluation and
optimization, Statistical Science 2014) with an outcome model that does not depend on the variant. Users for whom both
policies draw with the same probability add neither information nor noise. So the estimate needs several times fewer
users than a difference of means.

p̄ is the marginal propensity over all groups, including the holdout, so the sums run over all users. Without the
holdout, p̄ would have to be the propensity of a user who is not in it.

Chance in the first periods decides which policy follows, and thereby how much ψ varies. The same chance is in the
estimate: the correlation of both is up to 0.66, and normal intervals miss the truth in 11-14 % of the cases even with
the true conditional variance. So intervals are Student's with Satterthwaite's degrees of freedom (Biometrics Bulletin
1946) over periods, (ΣV_t)²/ΣV_t², where V_t is the part of the variance that a period contributes. This widens them by
4-9 % if few periods carry the evidence (for t-statistics of few heterogeneous groups see Ibragimov and Müller, JBES
2010). There should therefore be many periods, twenty or more, whatever their length.
"""

import math
from dataclasses import fields

from allocator.estimates.estimate import Estimate, enough
from allocator.estimates.log import LoggedAssignments, WeightSums


def segmentation_lift(log: LoggedAssignments, segment: int | None = None) -> Estimate | None:
    """Estimate how much more often users convert under the segmented policy than under the global one.

    The estimand is the mean over the users of the log of Σ_a (q_segment(a | x) − q_global(a))·θ_a(x), with the policies
    as they were when each user came. A user whose segment was still served by the global table contributes 0.

    Args:
        log: of the experiment.
        segment: the index of a segment, whose users alone are counted; None for all users.

    Returns:
        None if the policies never differed, or if there are too few data (see `enough`).
    """
    return _lift(log, log.segmentation, slice(None) if segment is None else slice(segment, segment + 1))


def segmentation_lift_by_period(log: LoggedAssignments) -> list[Estimate | None]:
    """Estimate `segmentation_lift` for the users of each period alone, with a normal interval.

    A period has None if there are too few data (see `enough`).
    """
    lifts: list[Estimate | None] = []
    for period in range(len(log.trials)):
        sums, users = _part(log.segmentation, slice(period, period + 1)), float(log.users[period].sum())
        if not enough(sums):
            lifts.append(None)
            continue
        model = log.base_model[period : period + 1]
        mean = float(sums.residuals(model).sum()) / users
        variance = float(sums.squared_residuals(model).sum()) / users - mean**2
        lifts.append(Estimate(mean, math.sqrt(variance / users)) if variance > 0 else None)
    return lifts


def _part(sums: WeightSums, periods: slice, segments: slice = slice(None)) -> WeightSums:
    return WeightSums(*(getattr(sums, field.name)[periods, segments] for field in fields(WeightSums)))


def adaptive_lift(log: LoggedAssignments) -> Estimate | None:
    """Estimate how much more often users convert under the adaptive policy than if all got the control.

    The estimand is the mean over the users of the log of Σ_a q_segment(a | x)·θ_a(x) − θ_control(x), with the policy as
    it was when each user came. This compares the adaptive group with the holdout. Without a holdout it compares with
    the users for whom the control was drawn, and the interval is wider.

    Returns:
        None if there are too few data (see `enough`).
    """
    return _lift(log, log.adaptive, slice(None))


def _lift(log: LoggedAssignments, all_sums: WeightSums, rows: slice) -> Estimate | None:
    """Estimate the mean of ψ. The error comes from the variance over users, the degrees from that over periods."""
    sums = _part(all_sums, slice(None), rows)
    if not enough(sums):
        return None
    users = float(log.users[:, rows].sum())
    model = log.base_model[:, rows]
    mean = float(sums.residuals(model).sum()) / users
    squares = sums.squared_residuals(model).sum((1, 2))  # of each period
    variance = max(float(squares.sum()) / users - mean**2, 0.0) / users
    return Estimate(mean, math.sqrt(variance), degrees=float(squares.sum() ** 2 / (squares**2).sum()))
