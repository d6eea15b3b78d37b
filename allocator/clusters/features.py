"""Features: how the values of one dimension become coordinates. Plain data; who is alike is decided elsewhere.

Opposite hours, two values of a category, the ends of a scale, and having a value or none are all `weight` apart. In the
channels `without` the dimension, its absence says nothing that the channel does not say, and is `neutral`: the mean of
the others.
"""

import math
from dataclasses import dataclass

MISSING = ""
Block = tuple[float, ...]
_HALF = math.sqrt(0.5)
_ASIDE = math.sqrt(0.75)  # with the middle of the scale: 1 away from both ends


@dataclass(frozen=True, slots=True)
class _OfValues:
    name: str
    without: tuple[str, ...]
    weight: float
    values: tuple[str, ...]
    neutral: Block


@dataclass(frozen=True, slots=True)
class Category(_OfValues):
    """A column for each frequent value (MISSING may be one), and one for all the rest, seen or not."""

    @property
    def width(self) -> int:
        """Columns."""
        return len(self.values) + 1

    def block(self, value: str) -> Block:
        """The coordinates of a value."""
        own = self.values.index(value) if value in self.values else len(self.values)
        return tuple(self.weight * _HALF if column == own else 0.0 for column in range(self.width))


@dataclass(frozen=True, slots=True)
class Cycle(_OfValues):
    """Values in the order in which they go round: a circle of `weight` across, and its centre for all others."""

    @property
    def width(self) -> int:
        """Columns."""
        return 2

    def block(self, value: str) -> Block:
        """The coordinates of a value."""
        if value not in self.values:
            return 0.0, 0.0
        angle = 2 * math.pi * self.values.index(value) / len(self.values)
        return self.weight / 2 * math.cos(angle), self.weight / 2 * math.sin(angle)


@dataclass(frozen=True, slots=True)
class Ordinal(_OfValues):
    """Labels of bins from low to high, evenly spaced, and a second column for users who have none of them."""

    @property
    def width(self) -> int:
        """Columns."""
        return 2

    def block(self, value: str) -> Block:
        """The coordinates of a value."""
        if value not in self.values:
            return _beside_scale(self.weight)
        return self.weight * self.values.index(value) / (len(self.values) - 1), 0.0


@dataclass(frozen=True, slots=True)
class Number:
    """From `low` to `high` (percentiles 5 and 95 in training) and clipped; a second column for what is no number."""

    name: str
    without: tuple[str, ...]
    weight: float
    low: float
    high: float
    neutral: Block

    @property
    def values(self) -> tuple[str, ...]:
        """None is known beforehand."""
        return ()

    @property
    def width(self) -> int:
        """Columns."""
        return 2

    def block(self, value: str) -> Block:
        """The coordinates of a value."""
        number = to_number(value)
        if number is None:
            return _beside_scale(self.weight)
        return self.weight * min(max((number - self.low) / (self.high - self.low), 0.0), 1.0), 0.0


Feature = Category | Cycle | Ordinal | Number


def to_number(value: str) -> float | None:
    """The finite number that a value is, if it is one."""
    try:
        number = float(value)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _beside_scale(weight: float) -> Block:
    return weight * 0.5, weight * _ASIDE
