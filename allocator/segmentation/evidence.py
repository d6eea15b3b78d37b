"""Whether values of a dimension want different variants: evidence that may be looked at whenever one likes.

Null hypothesis, of an arm k against an arm j: the relative effect ρ is the same for every value x of the dimension.
Base rates may differ over values and days, one arm may be better: nobody would gain by choosing per value.
Alternative: ρ_x ~ N(ρ, τ²), τ unknown.

Within a day all users meet the same base rate and nearly the same allocation, so arms are compared day by day and the
differences summed with the weights n_k·n_j/(n_k + n_j) (Cochran, Biometrics 1954). Summing counts first would take
days for arms where both move (Simpson). With variances s²_x of the ρ_x, and a flat prior for ρ, the likelihood is the
restricted one of a random-effects meta-analysis (Patterson and Thompson, Biometrika 1971): with W_x = 1/(s²_x + τ²),
log L(τ) = −½ log ΣW_x + ½ Σ log W_x − ½ ΣW_x(ρ_x − ρ̄)².
L(τ)/L(0) depends on the differences of the ρ_x alone. It is a likelihood ratio of all that was seen, so a martingale
from 1 under the null, and so is E, its mean over values of τ: P(ever E ≥ 1/α) ≤ α (Ville, 1939; Grünwald, de Heide and
Koolen, Safe testing, JRSSB 2024; for the flat prior: Pérez-Ortiz, Lardy, de Heide and Grünwald, E-statistics, group
invariance and anytime-valid testing, Annals of Statistics 2024). No horizon, no schedule of looks. D·K·(K − 1)/2 such
tests at 5 % together need E ≥ D·K·(K − 1)/2/0.05.

What is approximate: normal sums, s²_x from one rate for both arms, m_x by the allocation there was, a flat prior while
the allocation depends on the past. `make figure NAME=false-recommendations` has the share of false recommendations.

Different effects alone earn nothing: another winner does. So every arm must also be beaten in some value, by any other;
an arm that leads nowhere does not matter, one that nothing beats would do for everyone. This is no test of its own but
a condition on top: z ≥ 1.645 at any look, in any value. Where arms are nearly tied in many values, chance fulfils it.

Whom a segmentation must improve on is the arm that leads over all values: E is of its contrasts with arms that beat it
somewhere, which with more than two arms they must at z for 5 % over all values. Which arm leads is learnt from the
data, so K·(K − 1)/2 contrasts count. Contrasts against control alone would do worse: in 30 days of 200 simulated
experiments with three arms (D = 8), where arms cross while control does not (.10/.12 against .12/.10 and .10, 2,000
users a day), they recommend 4 %, these 87 %; with control at .04 or .13 in turn over eight values and two others at
.14 in all (8,000 a day), where no value wants another arm than the rest, they recommend 64 %, these 5 %.

How much a segmentation earns is for `allocator.estimates` to say, from users that did not choose it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from allocator.defects import InvalidCountsError

Array = NDArray[np.float64]
Counts = NDArray[np.int64]

SPREADS = (0.05, 0.1, 0.2, 0.4)  # τ, of relative effects: 0.1 is 10 % of the rate
ERROR = 0.05  # of ever recommending under the null, over all that is looked at
_BEATEN = 1.645
LARGEST_LOG = 690.0  # e to more would not be a float any more


@dataclass(frozen=True)
class Winner:
    """Who leads in one value of the dimension.

    arm: whose closest rival is farthest behind; None where no two arms had users on one day.
    z: by how many standard errors it leads that rival; 0 where there is none.
    beaten: arms, ascending, that some other arm leads by z ≥ 1.645.
    """

    arm: int | None
    z: float
    beaten: tuple[int, ...]


@dataclass(frozen=True)
class SegmentationEvidence:
    """What speaks for segmenting by one dimension.

    e_value: the largest over the contrasts of the arm that leads over all values with those that beat it in some value,
        or with all others if none does: 1 where there are no data, below 1 where they speak for the null. needed: what
        it must reach. winners: of each value, in the order of the counts. pairs: E of each pair of arms, whichever
        leads: float64 (arms, arms), symmetric, 1 on the diagonal.
    """

    e_value: float
    needed: float
    winners: tuple[Winner, ...]
    every_arm_is_beaten: bool
    pairs: Array = field(compare=False, repr=False)

    @property
    def is_enough(self) -> bool:
        """Whether to recommend."""
        return self.e_value >= self.needed and self.every_arm_is_beaten


def segmentation_evidence(trials: Counts, successes: Counts, *, looked_at: int = 1) -> SegmentationEvidence:
    """The evidence in the counts of matured users; it may be asked for at any time, and as often as one likes.

    Args:
        trials, successes: int (days, values, arms), of users by the day of their assignment. Days, values and cells
            may be without users; an arm without any is never beaten, so those that may not be drawn do not belong here.
        looked_at: D, the number of dimensions that are looked at.

    Raises:
        InvalidCountsError: the shapes differ, successes are not from 0 to trials, or no dimension is looked at.
    """
    _check(trials, successes, looked_at)
    n, y = trials.astype(np.float64), successes.astype(np.float64)
    _, values, arms = n.shape
    rates = value_rates(n.sum((0, 2)), y.sum((0, 2)))
    leads = np.full((values, arms, arms), np.nan)  # z of an arm over another, where they can be compared
    overall = np.full((arms, arms), np.nan)  # the same of all values together
    e_values = np.ones((arms, arms))
    for arm, other in combinations(range(arms), 2):
        information, difference = day_sums(n, y, arm, other)
        effects, precisions = relative_effects(information, difference, rates)
        leads[:, arm, other] = np.where(information > 0, effects * np.sqrt(precisions), np.nan)
        leads[:, other, arm] = -leads[:, arm, other]
        variance = float((information * rates * (1 - rates)).sum())
        overall[arm, other] = difference.sum() / np.sqrt(variance) if variance else np.nan
        overall[other, arm] = -overall[arm, other]
        e_values[arm, other] = e_values[other, arm] = mixture_e_value(effects, precisions)
    winners = tuple(_winner(of_value) for of_value in leads)
    leader = _winner(overall).arm
    e_value, beating = 1.0, np.zeros(arms, np.bool_)
    if leader is not None:
        rivals = np.arange(arms) != leader
        least = _BEATEN if arms == 2 else NormalDist().inv_cdf(1 - ERROR / values)
        beating = (np.nan_to_num(leads[:, :, leader]) >= least).any(0)
        e_value = float(e_values[leader, beating if beating.any() else rivals].max())
    return SegmentationEvidence(
        e_value=e_value,
        needed=looked_at * max(arms * (arms - 1) // 2, 1) / ERROR,
        winners=winners,
        every_arm_is_beaten=bool(beating.any()) and len({arm for each in winners for arm in each.beaten}) == arms,
        pairs=e_values,
    )


def day_sums(trials: Array, successes: Array, arm: int, other: int) -> tuple[Array, Array]:
    """I_x = Σ n_k·n_j/N and I_x·d_x = Σ (y_k·n_j − y_j·n_k)/N over days, N = n_k + n_j; both add up over more days.

    Args:
        trials, successes: float64 (..., days, values, arms).
        arm, other: indices of k and j.

    Returns:
        Information (users) and difference (conversions), float64 (..., values) each.
    """
    n, m = trials[..., arm], trials[..., other]
    both = n + m
    per_user = np.divide(1.0, both, out=np.zeros_like(both), where=both > 0)
    information = (n * m * per_user).sum(-2)
    difference = ((successes[..., arm] * m - successes[..., other] * n) * per_user).sum(-2)
    return information, difference


def normal_mixture(effect: float, precision: float, spreads: Sequence[float]) -> float:
    """The mean over τ of the likelihood ratio of an effect N(0, τ²) against 0, where its estimate is normal.

    A martingale from 1 where the effect is 0, so that P(ever E ≥ 1/α) ≤ α (Robbins, Statistical methods related to the
    law of the iterated logarithm, Annals of Mathematical Statistics 1970).
    """
    growth = 1 + precision * np.array(spreads) ** 2
    logs = (precision * effect**2 * (1 - 1 / growth) - np.log(growth)) / 2
    return float(np.exp(np.minimum(logs, LARGEST_LOG)).mean())


def value_rates(trials: Array, successes: Array) -> Array:
    """m_x, the rates at which users of a value converted, whatever arm they were given; 0 where there were none."""
    return np.divide(successes, trials, out=np.zeros_like(trials), where=trials > 0)


def relative_effects(information: Array, difference: Array, rates: Array) -> tuple[Array, Array]:
    """ρ_x = d_x/m_x, and its precision 1/s²_x = m_x·I_x/(1 − m_x); ρ_x/s_x is standard normal if the arms are equal.

    Args:
        information, difference: of `day_sums`, float64 (..., values).
        rates: m_x, of `value_rates`, float64 (..., values).

    Returns:
        float64 (..., values) each; 0 where nothing is known: no day with both arms, nobody or everybody converted.
    """
    known = (information > 0) & (rates > 0) & (rates < 1)
    effects = np.divide(difference, information * rates, out=np.zeros_like(information), where=known)
    precisions = np.divide(information * rates, 1 - rates, out=np.zeros_like(information), where=known)
    return effects, precisions


def mixture_e_value(effects: Array, precisions: Array) -> Array:
    """E, the mean of L(τ)/L(0) over τ ∈ {0.05, 0.1, 0.2, 0.4}: 1 where fewer than two values are known.

    Args:
        effects, precisions: of `relative_effects`, float64 (..., values).

    Returns:
        float64 (...), above 0.
    """
    at_null = _weighted_squares(effects, precisions)
    total = precisions.sum(-1)
    ratios = []
    for tau in SPREADS:
        growth = 1 + precisions * tau**2
        weights = precisions / growth
        kept = np.divide(weights.sum(-1), total, out=np.ones_like(total), where=total > 0)
        log_ratio = (at_null - _weighted_squares(effects, weights) - np.log(kept) - np.log(growth).sum(-1)) / 2
        ratios.append(np.exp(np.minimum(log_ratio, LARGEST_LOG)))
    return np.asarray(np.mean(ratios, axis=0))


def _weighted_squares(effects: Array, weights: Array) -> Array:
    """ΣW_x(ρ_x − ρ̄)², ρ̄ the weighted mean."""
    total = weights.sum(-1, keepdims=True)
    mean = np.divide((weights * effects).sum(-1, keepdims=True), total, out=np.zeros_like(total), where=total > 0)
    return np.asarray((weights * (effects - mean) ** 2).sum(-1))


def _winner(leads: Array) -> Winner:
    """Of one value; leads: float64 (arms, arms), z of each arm over each other, NaN where unknown."""
    known = ~np.isnan(leads)
    compared = np.flatnonzero(known.any(1))
    if not compared.size:
        return Winner(None, 0.0, ())
    closest = np.where(known, leads, np.inf).min(1)[compared]
    beaten = np.where(known, leads, 0.0).max(0) >= _BEATEN
    return Winner(int(compared[closest.argmax()]), float(closest.max()), tuple(np.flatnonzero(beaten).tolist()))


def _check(trials: Counts, successes: Counts, looked_at: int) -> None:
    if trials.ndim != 3 or trials.shape != successes.shape or not trials.shape[2]:
        raise InvalidCountsError(
            "trials and successes must have one shape (days, values, arms), with at least one arm; "
            f"the shapes are {trials.shape} and {successes.shape}"
        )
    if (successes < 0).any() or (successes > trials).any():
        raise InvalidCountsError("successes must be from 0 to trials in every cell")
    if looked_at < 1:
        raise InvalidCountsError(f"at least one dimension must be looked at; is {looked_at}")
