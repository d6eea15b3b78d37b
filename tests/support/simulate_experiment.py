"""Whole experiments, simulated with the project's own posteriors, draws and groups, to test the estimates on."""

from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
from numpy.typing import NDArray

from allocator.estimates import Array, LoggedAssignments, sum_assignments
from allocator.kernels import draw_best_arms
from allocator.posterior.effective_trials import Count
from allocator.posterior.tables import posterior_tables

CONTROL = 0
_FIRST_DAY = date(2026, 1, 1)
_MIN_SAMPLES = 100


@dataclass(frozen=True)
class Design:
    """An experiment to simulate. The tables are renewed after each day, and its users arrive evenly.

    rates: float64 (days, segments, arms), the true conversion rates; segments are equally frequent. One segment is an
        experiment without segmentation.
    """

    rates: Array
    users: int
    floor: float
    baseline_share: float
    holdout_share: float


@dataclass(frozen=True)
class Simulated:
    """The assignments, and the probabilities that they were drawn with.

    log: the assignments. drawn: float64 (days, segments, arms), the marginal propensities of all arms.
    q_segment, q_global: the same of the adaptive and of the baseline group.
    """

    log: LoggedAssignments
    drawn: Array
    q_segment: Array
    q_global: Array


def simulate(design: Design, rng: np.random.Generator) -> Simulated:
    """Run the experiment once."""
    days, segments, arms = design.rates.shape
    per_day = design.users // days
    counts: list[Count] = []
    logged: list[tuple[NDArray[np.int64], ...]] = []
    q_segment, q_global = np.empty((2, *design.rates.shape))
    for day in range(days):
        tables = posterior_tables(day, 1, range(arms), counts)
        row_of = np.array([tables.rows.get(segment, 0) for segment in range(segments)])
        row_of[(tables.trials[row_of] < _MIN_SAMPLES) | (segments == 1)] = 0
        q = design.floor + (1 - arms * design.floor) * tables.best
        q_segment[day], q_global[day] = q[row_of], q[0]
        segment = rng.integers(segments, size=per_day)
        position = rng.random(per_day)
        baseline = 1 - position <= (1 - design.holdout_share) * design.baseline_share
        seeds = rng.integers(2**63 - 1, size=(per_day, 2))
        arm = draw_best_arms(tables.constants, np.where(baseline, 0, row_of[segment]), design.floor, seeds)
        arm[position < design.holdout_share] = CONTROL
        success = rng.random(per_day) < design.rates[day, segment, arm]
        logged.append((np.full(per_day, day), segment, arm, success.astype(np.int64)))
        cell = segment * arms + arm
        trials = np.bincount(cell, minlength=segments * arms).tolist()
        successes = np.bincount(cell[success], minlength=segments * arms).tolist()
        when = _FIRST_DAY + timedelta(day)
        counts += [Count(c // arms, c % arms, when, trials[c], successes[c]) for c in range(segments * arms)]
    control = np.arange(arms) == CONTROL
    mixed = design.baseline_share * q_global + (1 - design.baseline_share) * q_segment
    drawn = design.holdout_share * control + (1 - design.holdout_share) * mixed
    period, segment, arm, success = (np.concatenate(column) for column in zip(*logged, strict=True))
    log = sum_assignments(
        period,
        segment,
        arm,
        np.ones(period.size),
        success.astype(np.float64),
        drawn[period, segment, arm],
        q_segment[period, segment, arm],
        q_global[period, segment, arm],
        control=CONTROL,
        drawable=np.ones((days, arms), np.bool_),
    )
    return Simulated(log, drawn, q_segment, q_global)
