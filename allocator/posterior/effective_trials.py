"""Effective trials: how many mature trials on a mean day the users of a cell are worth.

Two corrections lead from users to effective trials. A user who is younger than the maturity counts as the share of a
trial that is over by now. A user who came on a good day counts as more than one trial, and on a bad day as less.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date

import numpy as np
from numpy.typing import NDArray

from allocator.estimates.chi_square import chi_square_tail

Array = NDArray[np.float64]

DELAY_STEPS = 32  # equal steps of the maturity, in which ages and delays are counted
_LEAST_DELAYS = 100  # conversions that a delay distribution is estimated from, at least
_LEAST_EXPECTED = 5.0  # conversions of each variant in each bin of the comparison
_DIFFERENT = 0.001  # p-value below which the delays of the variants differ
_PSEUDO_SUCCESSES = 5.0  # hold the factor of a day near 1 until the day has seen conversions
_PRIOR_SUCCESSES, _PRIOR_TRIALS = 1.0, 10.0  # added to those of each arm
_SWEEPS = 30


@dataclass(frozen=True)
class Count:
    """Users of one cell who were assigned on one day, and how many of them converted within the maturity."""

    segment: int
    variant: int
    day: date
    trials: int
    successes: int


@dataclass(frozen=True)
class ImmatureCount:
    """The part of a Count that is younger than the maturity and of one age, a fraction of the maturity below 1."""

    count: Count
    age: float


@dataclass(frozen=True)
class ImmatureUsers:
    """The users who are younger than the maturity; there are none if the maturity is 0.

    delays: for each variant, the conversions of mature users by delay, in DELAY_STEPS equal steps of the maturity.
    """

    counts: Sequence[ImmatureCount] = ()
    delays: Mapping[int, Sequence[int]] = field(default_factory=dict)


ALL_MATURE = ImmatureUsers()


@dataclass(frozen=True)
class EffectiveCounts:
    """The counts that tables are fitted to: `users` is float64 (segments,), the rest is float64 (segments, arms).

    users: all users, mature or not. trials: mature users. effective_trials: what all users are worth, mature or not.
    successes: the conversions of all users who are worth more than nothing.
    """

    segments: tuple[int, ...]
    users: Array
    trials: Array
    effective_trials: Array
    successes: Array


def effective_counts(variants: Sequence[int], counts: Sequence[Count], immature: ImmatureUsers) -> EffectiveCounts:
    """Sum the counts of these variants over the days.

    Segments are in the order of their numbers. Without any count there is one row, of zeros.
    """
    arm_of = {number: arm for arm, number in enumerate(variants)}
    kept = [count for count in counts if count.variant in arm_of]
    segments = sorted({count.segment for count in kept})
    row_of = {segment: row for row, segment in enumerate(segments)}
    day_of = {day: index for index, day in enumerate(sorted({count.day for count in kept}))}
    trials, successes = np.zeros((2, len(day_of), max(len(segments), 1), len(variants)))
    for count in kept:
        cell = day_of[count.day], row_of[count.segment], arm_of[count.variant]
        trials[cell] += count.trials
        successes[cell] += count.successes
    users = trials.sum((0, 2))
    effective_trials = trials.copy()
    delays = delay_distribution(immature.delays)
    for young in immature.counts:
        count = young.count
        if count.variant not in arm_of:
            continue
        cell = day_of[count.day], row_of[count.segment], arm_of[count.variant]
        trials[cell] -= count.trials
        if delays is None:
            effective_trials[cell] -= count.trials
            successes[cell] -= count.successes
        else:
            share = np.interp(young.age * DELAY_STEPS, range(DELAY_STEPS + 1), delays)
            effective_trials[cell] -= count.trials * (1 - share)
    effective_trials *= day_factors(effective_trials.sum(1), successes.sum(1))[:, None, None]
    return EffectiveCounts(tuple(segments), users, trials.sum(0), effective_trials.sum(0), successes.sum(0))


def delay_distribution(delays: Mapping[int, Sequence[int]]) -> Array | None:
    """Return the share of conversions that have come by each step of the maturity: float64 (DELAY_STEPS + 1,), 0 to 1.

    Return None if there are fewer than 100 conversions, or if the delays differ between the variants: immature users
    then say nothing yet.
    """
    table = np.array([row for row in delays.values() if sum(row)], float).reshape(-1, DELAY_STEPS)
    by_step = table.sum(0)
    if by_step.sum() < _LEAST_DELAYS or not _is_homogeneous(table):
        return None
    return np.concatenate([[0.0], np.cumsum(by_step) / by_step.sum()])


def day_factors(effective_trials: Array, successes: Array) -> Array:
    """Return how much better than on the mean day users converted on each day, whatever arms they were given.

    Trials times this factor are trials on a mean day. Without it, an arm that was drawn more on good days would seem
    good. Successes are taken as Poisson with means factor·rate·trials, where the rate of an arm is the same on all
    days. Iterative proportional fitting (Deming and Stephan, 1940) finds factors and rates.

    Args:
        effective_trials, successes: float64 (days, arms).

    Returns:
        float64 (days,). The mean is 1, weighted by the trials.
    """
    factors = np.ones(len(effective_trials))
    total = effective_trials.sum()
    if not total:
        return factors
    for _ in range(_SWEEPS):
        corrected = (effective_trials * factors[:, None]).sum(0)
        rates = (successes.sum(0) + _PRIOR_SUCCESSES) / (corrected + _PRIOR_TRIALS)
        expected = effective_trials @ rates
        factors = (successes.sum(1) + _PSEUDO_SUCCESSES) / (expected + _PSEUDO_SUCCESSES)
    return np.asarray(factors * total / (factors * effective_trials.sum(1)).sum())


def _is_homogeneous(table: Array) -> bool:
    """Return whether a χ² test finds no difference between the rows of a table (variants, steps).

    Variants with few conversions are left out.
    """
    table = table[table.sum(1) >= 2 * _LEAST_EXPECTED]
    if len(table) < 2:
        return True
    by_step, of_variant = table.sum(0), table.sum(1)
    least = by_step.sum() * _LEAST_EXPECTED / of_variant.min()  # what a bin needs for the rarest variant
    bins = np.floor(np.cumsum(by_step) / least - 1e-9).astype(np.int64).clip(0, int(by_step.sum() // least) - 1)
    binned = np.stack([np.bincount(bins, row) for row in table])
    binned = binned[:, binned.sum(0) > 0]
    if binned.shape[1] < 2:
        return True
    expected = np.outer(of_variant, binned.sum(0)) / binned.sum()
    statistic = float(((binned - expected) ** 2 / expected).sum())
    return chi_square_tail(statistic, (binned.shape[0] - 1) * (binned.shape[1] - 1)) >= _DIFFERENT
