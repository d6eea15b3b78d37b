"""What may be recommended."""

from dataclasses import dataclass
from enum import Enum

from allocator.estimates import Estimate


class RecommendationKind(Enum):
    """What to do."""

    SEGMENT_BY = "SEGMENT_BY"
    ADD_DIMENSION = "ADD_DIMENSION"
    DROP_DIMENSION = "DROP_DIMENSION"
    USE_CLUSTERS = "USE_CLUSTERS"
    TRAIN_CLUSTERS = "TRAIN_CLUSTERS"
    TURN_OFF = "TURN_OFF"
    FINISH = "FINISH"


@dataclass(frozen=True)
class Proposal:
    """One thing to do, and why.

    segment_by: the dimensions that there would be, where that is what changes. winner: a variant number, with FINISH.
    e_value, needed: what it rests on, if on that. trials, days: that were looked at.
    """

    kind: RecommendationKind
    summary: str
    trials: int
    days: int
    segment_by: tuple[str, ...] = ()
    winner: int | None = None
    expected: Estimate | None = None
    e_value: float | None = None
    needed: float | None = None
