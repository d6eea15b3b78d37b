"""Counts of users by the values of one dimension."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from allocator.context import UNKNOWN
from allocator.posterior.effective_trials import Count
from allocator.segmentation.evidence import Counts


@dataclass(frozen=True)
class DimensionCounts:
    """Mature users by day, value and arm.

    dimension: its name in contexts. trials, successes: int64 (days, values, arms), successes ≤ trials; the days are in
    order.
    """

    dimension: str
    values: tuple[str, ...]
    trials: Counts
    successes: Counts

    @property
    def division(self) -> tuple[bytes, ...]:
        """Return what is equal for dimensions that divide users in the same way, whatever their values are called."""
        return tuple(
            sorted(
                self.trials[:, value].tobytes() + self.successes[:, value].tobytes()
                for value in range(len(self.values))
            )
        )

    @classmethod
    def of_segments(cls, counts: Sequence[Count], arms: Sequence[int]) -> "DimensionCounts":
        """Make them from the counts of segments: the values are the segment numbers.

        arms: the variant number of each arm; counts of other variants are left out.
        """
        kept = [count for count in counts if count.variant in arms]
        days = {day: index for index, day in enumerate(sorted({count.day for count in kept}))}
        segments = {number: index for index, number in enumerate(sorted({count.segment for count in kept}))}
        trials, successes = np.zeros((2, len(days), len(segments), len(arms)), np.int64)
        for count in kept:
            cell = days[count.day], segments[count.segment], arms.index(count.variant)
            trials[cell], successes[cell] = count.trials, count.successes
        return cls("segment", tuple(map(str, segments)), trials, successes)

    def with_unknown(self, everyone: "DimensionCounts") -> "DimensionCounts":
        """Return the same counts with all other users under the value "unknown".

        everyone: counts of all users under one value, with the same days and arms.
        """
        known = [index for index, value in enumerate(self.values) if value != UNKNOWN]
        values = tuple(self.values[index] for index in known)
        trials, successes = self.trials[:, known], self.successes[:, known]
        unknown = (everyone.trials - trials.sum(1, keepdims=True)).clip(0)
        unknown_successes = (everyone.successes - successes.sum(1, keepdims=True)).clip(0)
        if not unknown.any():
            return DimensionCounts(self.dimension, values, trials, successes)
        return DimensionCounts(
            self.dimension,
            (*values, UNKNOWN),
            np.concatenate([trials, unknown], axis=1),
            np.concatenate([successes, unknown_successes.clip(max=unknown)], axis=1),
        )
