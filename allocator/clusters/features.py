"""Features: how the values of one dimension become coordinates. They are plain data and know of no clusters.

The distance is `weight` between opposite hours, between two values of a category, between the ends of a scale, and
between a value and a missing one. Users of a channel in `without` never have the dimension, so a missing value says
nothing about them. They get `neutral`, the mean of all other users.
"""

import math
from dataclasses import dataclass

MISSING = ""
Block = tuple[float, ...]
_HALF = math.sqrt(0.5)
_ASIDE = math.sqrt(0.75)  # beside the middle of the scale, so that both ends are at a distance of 1


@dataclass(frozen=True, slots=True)
class _OfValues:
    name: str
    without: tuple[str, ...]
    weight: float
    values: tuple[str, ...]
    neutral: Block


@dataclass(frozen=True, slots=True)
class Category(_OfValues):
    """A column for each frequent value, of which MISSING may be one, and a column for all other values."""

    @property
    def width(self) -> int:
        """Return how many columns the feature has."""
        return len(self.values) + 1

    def block(self, value: str) -> Block:
        """Return the coordinates of a value."""
        own = self.values.index(value) if value in self.values else len(self.values)
        return tuple(self.weight * _HALF if column == own else 0.0 for column in range(self.width))


@dataclass(frozen=True, slots=True)
class Cycle(_OfValues):
    """Values in the order of their cycle, on a circle with the diameter `weight`. Other values are at its centre."""

    @property
    def width(self) -> int:
        """Return how many columns the feature has."""
        return 2

    def block(self, value: str) -> Block:
        """Return the coordinates of a value."""
        if value not in self.values:
            return 0.0, 0.0
        angle = 2 * math.pi * self.values.index(value) / len(self.values)
        return self.weight / 2 * math.cos(angle), self.weight / 2 * math.sin(angle)


@dataclass(frozen=True, slots=True)
class Ordinal(_OfValues):
    """Labels of bins from low to high, evenly spaced. A second column is for users who have none of them."""

    @property
    def width(self) -> int:
        """Return how many columns the feature has."""
        return 2

    def block(self, value: str) -> Block:
        """Return the coordinates of a value."""
        if value not in self.values:
            return _beside_scale(self.weight)
        return self.weight * self.values.index(value) / (len(self.values) - 1), 0.0


@dataclass(frozen=True, slots=True)
class Number:
    """A number, scaled from `low` to `high` (percentiles 5 and 95 in training) and clipped.

    A second column is for values that are not numbers.
    """

    name: str
    without: tuple[str, ...]
    weight: float
    low: float
    high: float
    neutral: Block

    @property
    def values(self) -> tuple[str, ...]:
        """Return no values: those of numbers are not known beforehand."""
        return ()

    @property
    def width(self) -> int:
        """Return how many columns the feature has."""
        return 2

    def block(self, value: str) -> Block:
        """Return the coordinates of a value."""
        number = to_number(value)
        if number is None:
            return _beside_scale(self.weight)
        return self.weight * min(max((number - self.low) / (self.high - self.low), 0.0), 1.0), 0.0


Feature = Category | Cycle | Ordinal | Number


def to_number(value: str) -> float | None:
    """Return the finite number that a value stands for; None if it is not one."""
    try:
        number = float(value)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _beside_scale(weight: float) -> Block:
    return weight * 0.5, weight * _ASIDE
