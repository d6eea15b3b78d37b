"""The kind of feature that suits a dimension, from how often each of its values occurs.

A dimension that does not tell users apart has no feature.
"""

import math
from collections import Counter
from dataclasses import dataclass, replace

import numpy as np

from allocator.clusters.features import MISSING, Category, Cycle, Feature, Number, Ordinal, to_number
from allocator.context import DAYS_OF_WEEK, DIMENSIONS
from allocator.context.bins import COUNTS, DAYS, MINUTES, MONEY, SCORES, STAGES

MAX_VALUES = 16  # of a category that have a column of their own
MIN_SHARE = 0.01  # a value is frequent if at least this share of users have it
_MAX_RARE = 0.9  # if more users have rare values, the values are ids
_MIN_NUMBERS = 0.95  # share of the users with the attribute whose value must be a number
_LIMITS = 5, 95  # percentiles of a number
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
    """How many users have each value of a dimension. `without` names the channels that do not have it."""

    name: str
    without: tuple[str, ...]
    counts: Counter[str]


def choose_feature(usage: Usage) -> Feature | None:
    """Return the feature of a dimension, with weight 1; None if it is constant or nearly all its values are rare."""
    name, without, counts = usage.name, usage.without, usage.counts
    if not counts:
        return None
    least = MIN_SHARE * counts.total()
    frequent = [value for value, users in counts.items() if users >= least]
    feature: Feature
    if name in _CYCLES:
        feature = Cycle(name, without, 1.0, _CYCLES[name], neutral=())
    elif name in _BINS:
        feature = Ordinal(name, without, 1.0, _BINS[name].labels, neutral=())
    elif limits := _limits(usage):
        return _with_mean(Number(name, without, 1.0, *limits, neutral=()), counts)
    else:
        frequent = sorted(frequent, key=lambda value: (-counts[value], value))[:MAX_VALUES]
        feature = Category(name, without, 1.0, tuple(frequent), neutral=())
    rare = counts.total() - sum(counts[value] for value in frequent)
    if len(frequent) + (rare >= least) < 2 or rare > _MAX_RARE * counts.total():
        return None
    return _with_mean(feature, counts)


def with_weight(feature: Feature, weight: float) -> Feature:
    """Return a feature of weight 1 with another weight."""
    return replace(feature, weight=weight, neutral=tuple(weight * coordinate for coordinate in feature.neutral))


def _limits(usage: Usage) -> tuple[float, float] | None:
    """Return low and high of an attribute whose values are numbers; None if they are not, or are nearly all equal."""
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
