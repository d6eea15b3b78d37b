"""What is counted of users by one dimension."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from allocator.context import UNKNOWN
from allocator.posterior.effective_trials import Count
from allocator.segmentation.evidence import Counts


@dataclass(frozen=True)
class DimensionCounts:
    """Matured users by day, value and arm.

    dimension: as contexts have it. trials, successes: int64 (days, values, arms), successes ≤ trials; days in order.
    """

    dimension: str
    values: tuple[str, ...]
    trials: Counts
    successes: Counts

    @property
    def division(self) -> tuple[bytes, ...]:
        """The same for dimensions that divide users alike, whatever their values are called."""
        return tuple(
            sorted(
                self.trials[:, place].tobytes() + self.successes[:, place].tobytes()
                for place in range(len(self.values))
            )
        )

    @classmethod
    def of_segments(cls, counts: Sequence[Count], arms: Sequence[int]) -> "DimensionCounts":
        """Of the segments of a segmentation, by their numbers; `arms` are variant numbers, others are left out."""
        live = [count for count in counts if count.variant in arms]
        days = {day: place for place, day in enumerate(sorted({count.day for count in live}))}
        segments = {number: place for place, number in enumerate(sorted({count.segment for count in live}))}
        trials, successes = np.zeros((2, len(days), len(segments), len(arms)), np.int64)
        for count in live:
            place = days[count.day], segments[count.segment], arms.index(count.variant)
            trials[place], successes[place] = count.trials, count.successes
        return cls("segment", tuple(map(str, segments)), trials, successes)

    def with_unknown(self, everyone: "DimensionCounts") -> "DimensionCounts":
        """The same with everyone else under "unknown"; `everyone` has one value, and the same days and arms."""
        known = [place for place, value in enumerate(self.values) if value != UNKNOWN]
        trials, successes = self.trials[:, known], self.successes[:, known]
        rest = (everyone.trials - trials.sum(1, keepdims=True)).clip(0)
        rest_won = (everyone.successes - successes.sum(1, keepdims=True)).clip(0)
        if not rest.any():
            return DimensionCounts(self.dimension, tuple(self.values[p] for p in known), trials, successes)
        return DimensionCounts(
            self.dimension,
            (*(self.values[place] for place in known), UNKNOWN),
            np.concatenate([trials, rest], axis=1),
            np.concatenate([successes, rest_won.clip(max=rest)], axis=1),
        )
