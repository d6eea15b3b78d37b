"""Evidence that the values of a dimension have different best variants. It may be computed at any time.

The test compares an arm k with an arm j. Null hypothesis: the relative effect ρ is the same for every value x of the
dimension. Base rates may then differ between values and days, and one arm may be better than the other, but nobody
gains if each value has an arm of its own. Alternative: ρ_x ~ N(ρ, τ²) with τ unknown.

On one day all users meet the same base rate and nearly the same allocation. So arms are compared day by day, and the
differences are summed with the weights n_k·n_j/(n_k + n_j) (Cochran, Biometrics 1954). If counts were summed over the
days first, arms that were drawn more on good days would look better than they are (Simpson's paradox).

With variances s²_x of the ρ_x, and a flat prior for ρ, the likelihood is the restricted one of a random-effects
meta-analysis (Patterson and Thompson, Biometrika 1971): with W_x = 1/(s²_x + τ²),
log L(τ) = −½ log ΣW_x + ½ Σ log W_x − ½ ΣW_x(ρ_x − ρ̄)².
L(τ)/L(0) depends only on the differences between the ρ_x. It is a likelihood ratio of all data so far, and therefore a
martingale from 1 under the null hypothesis. So is E, its mean over values of τ, and therefore P(ever E ≥ 1/α) ≤ α
(Ville, 1939; Grünwald, de Heide and Koolen, Safe testing, JRSSB 2024; for the flat prior: Pérez-Ortiz, Lardy, de Heide
and Grünwald, E-statistics, group invariance and anytime-valid testing, Annals of Statistics 2024). The test needs no
horizon and no schedule of looks. For D dimensions and K arms there are D·K·(K − 1)/2 tests, so an error of 5 % for all
together needs E ≥ D·K·(K − 1)/2/0.05.

Four things are approximate: sums are taken as normal, s²_x is computed from one rate for both arms, m_x is the rate
under the allocation that happened, and the prior is flat although the allocation depends on the past.
`make figure NAME=false-recommendations` shows the share of false recommendations.

Segmentation gains nothing from effects that differ, unless the best arm differs too. So there is a second condition:
each arm must be beaten by some other arm in at least one value. An arm that is never beaten is good enough for
everyone; an arm that never leads does not matter. This condition is not a test of its own: z ≥ 1.645 at any look and in
any value fulfils it, and if arms are nearly tied in many values, so does chance.

A segmentation must be better than the arm that leads over all values. So E is the largest over the contrasts of that
arm with the arms that beat it in some value. With two arms, z ≥ 1.645 counts as beaten; with more, the z of an error of
5 % over all values. The data decide which arm leads, so K·(K − 1)/2 contrasts count. Contrasts with the control alone
would do worse, in 30 days of 200 simulated experiments with three arms (D = 8). If the other arms cross while the
control does not (.10/.12 against .12/.10 and .10, 2,000 users a day), contrasts with the control recommend a
segmentation in 4 % of the experiments, and these contrasts in 87 %. If the control is at .04 and .13 by turns over
eight values and both others are at .14 in all (8,000 users a day), no value has another best arm than the rest:
contrasts with the control recommend a segmentation in 64 %, and these in 5 %.

How much a segmentation earns is estimated by `allocator.estimates`, from users who did not choose it.
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
ERROR = 0.05  # probability of ever recommending under the null hypothesis, over all dimensions and arms
_BEATEN = 1.645  # z from which an arm counts as beaten
LARGEST_LOG = 690.0  # the exponential of more overflows


@dataclass(frozen=True)
class Winner:
    """The arm that leads in one value of the dimension.

    arm: the arm whose closest rival is farthest behind; None if no two arms had users on the same day.
    z: by how many standard errors it leads that rival; 0 if there is none.
    beaten: the arms that some other arm leads by z ≥ 1.645, in ascending order.
    """

    arm: int | None
    z: float
    beaten: tuple[int, ...]


@dataclass(frozen=True)
class SegmentationEvidence:
    """The evidence for segmenting by one dimension.

    e_value: the largest E over the contrasts of the arm that leads over all values with the arms that beat it in some
        value, or with all others if none beats it. It is 1 without data, and below 1 if the data speak for the null
        hypothesis.
    needed: the e_value that is needed to recommend.
    winners: one for each value, in the order of the counts.
    every_arm_is_beaten: whether every arm is beaten in some value.
    pairs: E of each pair of arms: float64 (arms, arms), symmetric, with 1 on the diagonal.
    """

    e_value: float
    needed: float
    winners: tuple[Winner, ...]
    every_arm_is_beaten: bool
    pairs: Array = field(compare=False, repr=False)

    @property
    def is_enough(self) -> bool:
        """Return whether it is enough to recommend the segmentation."""
        return self.e_value >= self.needed and self.every_arm_is_beaten


def segmentation_evidence(trials: Counts, successes: Counts, *, looked_at: int = 1) -> SegmentationEvidence:
    """Return the evidence in the counts of mature users. It may be computed at any time, and as often as one likes.

    Args:
        trials, successes: int (days, values, arms), users by the day of their assignment. Days, values and cells may
            be without users. An arm without any user is never beaten, so leave out arms that may not be drawn.
        looked_at: D, how many dimensions are tested.

    Raises:
        InvalidCountsError: the shapes differ, successes are not from 0 to trials, or no dimension is looked at.
    """
    _check(trials, successes, looked_at)
    n, y = trials.astype(np.float64), successes.astype(np.float64)
    _, values, arms = n.shape
    rates = value_rates(n.sum((0, 2)), y.sum((0, 2)))
    leads = np.full((values, arms, arms), np.nan)  # z of an arm over another; NaN if they cannot be compared
    overall = np.full((arms, arms), np.nan)  # the same for all values together
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
    """Return I_x = Σ n_k·n_j/N and I_x·d_x = Σ (y_k·n_j − y_j·n_k)/N over the days, with N = n_k + n_j.

    The sums over further days may be added.

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
    """Return E, the mean over τ of the likelihood ratio of an effect N(0, τ²) against 0, for a normal estimate.

    It is a martingale from 1 if the effect is 0, so P(ever E ≥ 1/α) ≤ α (Robbins, Statistical methods related to the
    law of the iterated logarithm, Annals of Mathematical Statistics 1970).
    """
    growth = 1 + precision * np.array(spreads) ** 2
    logs = (precision * effect**2 * (1 - 1 / growth) - np.log(growth)) / 2
    return float(np.exp(np.minimum(logs, LARGEST_LOG)).mean())


def value_rates(trials: Array, successes: Array) -> Array:
    """Return m_x, the rate at which the users of each value converted, whatever arm they got; 0 if there are none."""
    return np.divide(successes, trials, out=np.zeros_like(trials), where=trials > 0)


def relative_effects(information: Array, difference: Array, rates: Array) -> tuple[Array, Array]:
    """Return ρ_x = d_x/m_x and its precision 1/s²_x = m_x·I_x/(1 − m_x).

    ρ_x/s_x is standard normal if the arms are equally good.

    Args:
        information, difference: from `day_sums`, float64 (..., values).
        rates: m_x from `value_rates`, float64 (..., values).

    Returns:
        float64 (..., values) each. A value is 0 if nothing is known: no day had both arms, or nobody or everybody
        converted.
    """
    known = (information > 0) & (rates > 0) & (rates < 1)
    effects = np.divide(difference, information * rates, out=np.zeros_like(information), where=known)
    precisions = np.divide(information * rates, 1 - rates, out=np.zeros_like(information), where=known)
    return effects, precisions


def mixture_e_value(effects: Array, precisions: Array) -> Array:
    """Return E, the mean of L(τ)/L(0) over τ ∈ {0.05, 0.1, 0.2, 0.4}; 1 if fewer than two values are known.

    Args:
        effects, precisions: from `relative_effects`, float64 (..., values).

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
    """Return ΣW_x(ρ_x − ρ̄)², where ρ̄ is the weighted mean."""
    total = weights.sum(-1, keepdims=True)
    mean = np.divide((weights * effects).sum(-1, keepdims=True), total, out=np.zeros_like(total), where=total > 0)
    return np.asarray((weights * (effects - mean) ** 2).sum(-1))


def _winner(leads: Array) -> Winner:
    """Return the winner of one value. `leads` is float64 (arms, arms): z of each arm over another, NaN if unknown."""
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
