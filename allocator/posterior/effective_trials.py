"""Exposure: how many trials the users of a cell are worth, when not all are old enough and not all days are alike."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date

import numpy as np
from numpy.typing import NDArray

from allocator.estimates.chi_square import chi_square_tail

Array = NDArray[np.float64]

DELAY_STEPS = 32  # equal steps of the maturity, in which ages and delays are counted
_LEAST_DELAYS = 100  # conversions from which a delay distribution is known
_LEAST_EXPECTED = 5.0  # conversions of a variant in a bin of the comparison
_DIFFERENT = 0.001  # p-value below which variants' delays differ
_PSEUDO_SUCCESSES = 5.0  # hold a day's factor near 1 until the day has seen conversions
_RATE_PRIOR = 1.0, 10.0  # successes and exposure added to an arm's own
_SWEEPS = 30


@dataclass(frozen=True)
class Count:
    """Users of one cell who came on one day, and those of them who converted within the maturity."""

    segment: int
    variant: int
    day: date
    trials: int
    successes: int


@dataclass(frozen=True)
class PendingCount:
    """The part of a Count that is younger than the maturity, at one age: a fraction of the maturity, below 1."""

    count: Count
    age: float


@dataclass(frozen=True)
class Pending:
    """What is not mature yet; nothing where the maturity is 0.

    delays: for each variant, conversions of mature users by delay, in DELAY_STEPS equal steps of the maturity.
    """

    counts: Sequence[PendingCount] = ()
    delays: Mapping[int, Sequence[int]] = field(default_factory=dict)


NOTHING_PENDING = Pending()


@dataclass(frozen=True)
class Evidence:
    """What tables are fitted to: float64 (segments, arms) each, and float64 (segments,) users.

    users: all, mature or not. trials: mature users. exposure: what all users are worth. successes: conversions among
    what is worth something.
    """

    segments: tuple[int, ...]
    users: Array
    trials: Array
    exposure: Array
    successes: Array


def gather(variants: Sequence[int], counts: Sequence[Count], pending: Pending) -> Evidence:
    """Sum the counts of these variants over the days; segments in order of their numbers, one row if there is none."""
    arm_of = {number: arm for arm, number in enumerate(variants)}
    live = [count for count in counts if count.variant in arm_of]
    segments = sorted({count.segment for count in live})
    row_of = {segment: row for row, segment in enumerate(segments)}
    day_of = {day: index for index, day in enumerate(sorted({count.day for count in live}))}
    trials, successes = np.zeros((2, len(day_of), max(len(segments), 1), len(variants)))
    for count in live:
        cell = day_of[count.day], row_of[count.segment], arm_of[count.variant]
        trials[cell] += count.trials
        successes[cell] += count.successes
    users = trials.sum((0, 2))
    exposure = trials.copy()
    delays = delay_distribution(pending.delays)
    for young in pending.counts:
        count = young.count
        if count.variant not in arm_of:
            continue
        cell = day_of[count.day], row_of[count.segment], arm_of[count.variant]
        trials[cell] -= count.trials
        if delays is None:
            exposure[cell] -= count.trials
            successes[cell] -= count.successes
        else:
            exposure[cell] -= count.trials * (1 - np.interp(young.age * DELAY_STEPS, range(DELAY_STEPS + 1), delays))
    exposure *= day_factors(exposure.sum(1), successes.sum(1))[:, None, None]
    return Evidence(tuple(segments), users, trials.sum(0), exposure.sum(0), successes.sum(0))


def delay_distribution(delays: Mapping[int, Sequence[int]]) -> Array | None:
    """The share of conversions that have come by each step of the maturity, from 0 to 1: float64 (DELAY_STEPS + 1,).

    None where it is not known, or where it differs between the variants: what is pending then says nothing yet.
    """
    table = np.array([row for row in delays.values() if sum(row)], float).reshape(-1, DELAY_STEPS)
    by_step = table.sum(0)
    if by_step.sum() < _LEAST_DELAYS or not _alike(table):
        return None
    return np.concatenate([[0.0], np.cumsum(by_step) / by_step.sum()])


def day_factors(exposure: Array, successes: Array) -> Array:
    """How much better than on the mean day users converted on each day, whatever arms they were given.

    Exposure times the factor is exposure on a mean day: without it, an arm that was played on good days would seem
    good. Successes are taken as Poisson with means factor·rate·exposure, the rate of an arm being the same on all days;
    iterative proportional fitting (Deming and Stephan, 1940) finds both.

    Args:
        exposure, successes: float64 (days, arms).

    Returns:
        float64 (days,), with mean 1 weighted by exposure.
    """
    factors = np.ones(len(exposure))
    total = exposure.sum()
    if not total:
        return factors
    added_successes, added_exposure = _RATE_PRIOR
    for _ in range(_SWEEPS):
        rates = (successes.sum(0) + added_successes) / ((exposure * factors[:, None]).sum(0) + added_exposure)
        expected = exposure @ rates
        factors = (successes.sum(1) + _PSEUDO_SUCCESSES) / (expected + _PSEUDO_SUCCESSES)
    return np.asarray(factors * total / (factors * exposure.sum(1)).sum())


def _alike(table: Array) -> bool:
    """Whether no χ² test of homogeneity tells rows (variants, steps) apart; variants that converted little are out."""
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
