"""Bins, which turn numbers into values of dimensions."""

from bisect import bisect_right
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Bins:
    """The labels of the intervals between edges. An edge belongs to the interval above it."""

    edges: tuple[float, ...]
    labels: tuple[str, ...]

    def label(self, value: float | None) -> str:
        """Return the label of the bin that a number is in; empty if the number is not known."""
        return "" if value is None else self.labels[bisect_right(self.edges, value)]


SCORES = Bins((0.3, 0.7), ("low", "medium", "high"))
COUNTS = Bins((1, 5, 20), ("0", "1-4", "5-19", "20+"))
DAYS = Bins((7, 30, 90), ("0-6", "7-29", "30-89", "90+"))
MINUTES = Bins((2, 5, 15), ("0-1", "2-4", "5-14", "15+"))
STAGES = Bins((1, 2, 3, 5), ("0", "1", "2", "3-4", "5+"))
MONEY = Bins((1, 50, 200), ("0", "1-49", "50-199", "200+"))
