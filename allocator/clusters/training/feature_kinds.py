"""What kind of feature a dimension is, from how often each of its values occurs; or none, where it carries nothing."""

import math
from collections import Counter
from dataclasses import dataclass, replace

import numpy as np

from allocator.clusters.features import MISSING, Category, Cycle, Feature, Number, Ordinal, to_number
from allocator.context import DAYS_OF_WEEK, DIMENSIONS
from allocator.context.bins import COUNTS, DAYS, MINUTES, MONEY, SCORES, STAGES

MAX_VALUES = 16  # of a category that have a column of their own
MIN_SHARE = 0.01  # of users, to be a level
_MAX_RARE = 0.9  # of users whose value is rare: ids
_MIN_NUMBERS = 0.95  # of the users who have the attribute
_LIMITS = 5, 95  # percentiles
_CYCLES = {
    "hour": tuple(str(hour) for hour in range(24)),
    "day_of_week": DAYS_OF_WEEK,
}
_BINS = {
    "engagement_score": SCORES,
    "drop_risk": SCORES,
    "previous_opens": COUNTS,
    "previous_clicks": COUNTS,
    "days_since_last_open": DAYS,
    "opt_in_days": DAYS,
    "minutes_in_funnel": MINUTES,
    "previous_stages": STAGES,
    "cart_value": MONEY,
}


@dataclass(frozen=True, slots=True)
class Usage:
    """How a dimension is used: how many have each value, among the users of channels that are not `without` it."""

    name: str
    without: tuple[str, ...]
    counts: Counter[str]


def learn_feature(usage: Usage) -> Feature | None:
    """The feature of a dimension, of weight 1, or None if it is constant or nearly all of its values are rare."""
    name, without, counts = usage.name, usage.without, usage.counts
    if not counts:
        return None
    least = MIN_SHARE * counts.total()
    levels = [value for value, users in counts.items() if users >= least]
    feature: Feature
    if name in _CYCLES:
        feature = Cycle(name, without, 1.0, _CYCLES[name], neutral=())
    elif name in _BINS:
        feature = Ordinal(name, without, 1.0, _BINS[name].labels, neutral=())
    elif limits := _limits(usage):
        return _with_mean(Number(name, without, 1.0, *limits, neutral=()), counts)
    else:
        levels = sorted(levels, key=lambda value: (-counts[value], value))[:MAX_VALUES]
        feature = Category(name, without, 1.0, tuple(levels), neutral=())
    rare = counts.total() - sum(counts[value] for value in levels)
    if len(levels) + (rare >= least) < 2 or rare > _MAX_RARE * counts.total():
        return None
    return _with_mean(feature, counts)


def weighted(feature: Feature, weight: float) -> Feature:
    """A feature of weight 1, `weight` times as wide."""
    return replace(feature, weight=weight, neutral=tuple(weight * coordinate for coordinate in feature.neutral))


def _limits(usage: Usage) -> tuple[float, float] | None:
    """Percentiles of an attribute whose values are numbers, unless they are nearly all the same."""
    if usage.name in DIMENSIONS:
        return None
    numbers = sorted(
        (number, count) for value, count in usage.counts.items() if (number := to_number(value)) is not None
    )
    having = usage.counts.total() - usage.counts[MISSING]
    if not numbers or sum(count for _, count in numbers) < _MIN_NUMBERS * having:
        return None
    values = np.array([number for number, _ in numbers])
    ranks = np.cumsum([count for _, count in numbers])
    low, high = (float(values[np.searchsorted(ranks, ranks[-1] * limit / 100)]) for limit in _LIMITS)
    return (low, high) if low < high and math.isfinite(high - low) else None


def _with_mean(feature: Feature, counts: Counter[str]) -> Feature:
    sums = sum((counts[value] * np.array(feature.block(value)) for value in sorted(counts)), np.zeros(feature.width))
    return replace(feature, neutral=tuple((sums / counts.total()).tolist()))
