"""What adaptive allocation, and segmenting it, brought: contrasts of policies, each measured on every user.

With two policies q and q′ the mean of ψ = (q(A) − q′(A))/p̄(A)·(y − m̂(x)) estimates how much more often users convert
under q than under q′, since E[ψ | the past, x] = Σ_a (q(a) − q′(a))·θ_a(x): m̂ drops out because q and q′ both sum to 1.
It is the efficient difference of two policy values (Dudík, Erhan, Langford and Li, Doubly robust policy evaluation and
optimization, Statistical Science 2014) with an outcome model that does not depend on the variant. Users whose draw both
policies would have made add nothing but also no noise, hence several times fewer users than a difference in means.

p̄ is the marginal propensity over all groups, the holdout too, so the sums run over all users. Leaving the holdout out
would need a p̄ given that the user is not in it.

How much ψ varies depends on which policy early luck led to, and that luck is in the estimate: their correlation is up
to 0.66, and normal intervals miss 11-14 % even with the true conditional variance. So intervals are Student's, with
Satterthwaite's degrees (Biometrics Bulletin 1946) over periods, (ΣV_t)²/ΣV_t² of the variances V_t that they
contribute: it widens them by 4-9 % where few periods carry the evidence (t-statistics of few heterogeneous groups:
Ibragimov and Müller, JBES 2010). Periods should hence be many, twenty and more, whatever their length.
"""

import math
from dataclasses import fields

from allocator.estimates.estimate import Estimate, enough
from allocator.estimates.log import LoggedAssignments, WeightSums


def segmentation_lift(log: LoggedAssignments, segment: int | None = None) -> Estimate | None:
    """How much more often users convert under the segmented policy than under the global one.

    The estimand: the mean over the users of the log of Σ_a (q_segment(a | x) − q_global(a))·θ_a(x), with the policies
    as they were when each user came. 0 for a user of a segment that was still served by the global table.

    Args:
        log: of the experiment.
        segment: the index of one; its users alone are asked about.

    Returns:
        None where the policies never differed, or the data are too few: see `enough`.
    """
    return _lift(log, log.segmentation, slice(None) if segment is None else slice(segment, segment + 1))


def segmentation_lift_by_period(log: LoggedAssignments) -> list[Estimate | None]:
    """The same of each period's users alone, with a normal interval; None where there is none: see `enough`."""
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
    """How much more often users convert under the adaptive policy than if all were given the control.

    The estimand: the mean over the users of the log of Σ_a q_segment(a | x)·θ_a(x) − θ_control(x), with the policy as
    it was when each user came: the adaptive group against the holdout. Without a holdout the control's share of the
    draws carries the comparison, and the interval is wider.

    Returns:
        None where the data are too few: see `enough`.
    """
    return _lift(log, log.adaptive, slice(None))


def _lift(log: LoggedAssignments, all_sums: WeightSums, rows: slice) -> Estimate | None:
    """The mean of ψ, its standard error from the variance of ψ over users, and degrees from that over periods."""
    sums = _part(all_sums, slice(None), rows)
    if not enough(sums):
        return None
    users = float(log.users[:, rows].sum())
    model = log.base_model[:, rows]
    mean = float(sums.residuals(model).sum()) / users
    squares = sums.squared_residuals(model).sum((1, 2))  # of each period
    variance = max(float(squares.sum()) / users - mean**2, 0.0) / users
    return Estimate(mean, math.sqrt(variance), degrees=float(squares.sum() ** 2 / (squares**2).sum()))
