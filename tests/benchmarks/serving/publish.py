"""What publishing a posterior version costs, in seconds of one core, and how that grows."""

import time
from collections.abc import Callable
from datetime import date, timedelta

import numpy as np

from allocator.kernels import warm_up
from allocator.posterior.effective_trials import Count
from allocator.posterior.pooling import pooled_tables
from allocator.posterior.tables import posterior_tables
from tests.benchmarks.row import Row

_SEED = 5
_ROUNDS = 15
_MODEL_GOAL, _VERSION_GOAL = 0.05, 0.5
_SEGMENTS = (10, 100), (100, 1_000), (1_000, 3_000)
_ARMS = (2, 5), (5, 10), (10, 20)
_MAX_GROWTH = 1.5  # ratio of the cost of a segment, or of an arm


def rows() -> list[Row]:
    """Measure a version of 1,000 segments × 5 arms, then growth step by step."""
    warm_up()
    counts = _counts(1_000, 5)
    successes = np.array([count.successes for count in counts], float).reshape(1_000, 5)
    trials = np.array([count.trials for count in counts], float).reshape(1_000, 5)
    shares = trials.sum(1) / trials.sum()
    return [
        _within("model", lambda: pooled_tables(successes, trials, shares), _MODEL_GOAL),
        _within("version, propensities included", _publish(1_000, 5, 1), _VERSION_GOAL),
        _within("version from 7 days of counts", _publish(1_000, 5, 7), _VERSION_GOAL),
        *(_growth("segments", few, many, _publish(few, 5, 1), _publish(many, 5, 1)) for few, many in _SEGMENTS),
        *(_growth("arms", few, many, _publish(1_000, few, 1), _publish(1_000, many, 1)) for few, many in _ARMS),
    ]


def _counts(segments: int, arms: int, days: int = 1) -> list[Count]:
    """Return counts: about a thousand trials a cell, rates around 10 % that differ by arm and segment."""
    generator = np.random.default_rng(_SEED)
    rates = generator.uniform(0.05, 0.15, (segments, 1)) * generator.uniform(0.8, 1.2, (segments, arms))
    first = date(2026, 1, 1)
    result = []
    for segment in range(segments):
        for arm in range(arms):
            for day in range(days):
                trials = int(generator.integers(100, 2_000)) // days
                successes = int(generator.binomial(trials, rates[segment, arm]))
                result.append(Count(segment + 1, arm, first + timedelta(day), trials, successes))
    return result


def _publish(segments: int, arms: int, days: int) -> Callable[[], object]:
    counts = _counts(segments, arms, days)
    return lambda: posterior_tables(1, 1, tuple(range(arms)), counts)


def _seconds(work: Callable[[], object]) -> float:
    begin = time.process_time()
    work()
    return time.process_time() - begin


def _within(name: str, work: Callable[[], object], goal: float) -> Row:
    work()
    taken = np.array([_seconds(work) for _ in range(_ROUNDS)])
    median = float(np.median(taken))
    return Row(
        figure=f"1,000 segments × 5 arms: {name}",
        reference=f"{goal} s",
        ours=f"{median:.4f} s",
        ratio=median / goal,
        spread=f"[{taken.min():.4f}, {taken.max():.4f}] of {_ROUNDS} rounds",
        goal=f"≤ {goal} s",
        holds=median <= goal,
    )


def _growth(
    what: str, small: int, large: int, small_work: Callable[[], object], large_work: Callable[[], object]
) -> Row:
    """Measure few and many in turn. The ratio is the cost of each of many over the cost of each of few."""
    small_work()
    rounds = np.array([(_seconds(small_work), _seconds(large_work)) for _ in range(_ROUNDS)])
    few, many = np.median(rounds, axis=0)
    each = rounds[:, 1] / rounds[:, 0] * small / large
    ratio = float(np.median(each))
    low, high = np.quantile(each, [0.1, 0.9])
    return Row(
        figure=f"growth in {what}: {small:,} to {large:,}",
        reference=f"{few * 1e3:.2f} ms",
        ours=f"{many * 1e3:.2f} ms",
        ratio=ratio,
        spread=f"[{low:.2f}, {high:.2f}] of the cost of each",
        goal=f"each ≤ {_MAX_GROWTH}×",
        holds=ratio <= _MAX_GROWTH,
    )
