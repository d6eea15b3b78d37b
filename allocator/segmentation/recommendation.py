"""Recommendations as values: what to do, and the figures that it rests on."""

from dataclasses import dataclass
from enum import Enum

from allocator.estimates import Estimate


class RecommendationKind(Enum):
    """What is recommended."""

    SEGMENT_BY = "SEGMENT_BY"
    ADD_DIMENSION = "ADD_DIMENSION"
    DROP_DIMENSION = "DROP_DIMENSION"
    USE_CLUSTERS = "USE_CLUSTERS"
    TRAIN_CLUSTERS = "TRAIN_CLUSTERS"
    TURN_OFF = "TURN_OFF"
    FINISH = "FINISH"


@dataclass(frozen=True)
class Proposal:
    """One thing to do, and the figures that it rests on.

    summary: for people. trials, days: how many mature users were counted, over how many days.
    segment_by: the dimensions after the change; empty if they do not change. winner: a variant number, with FINISH.
    expected: the lift that the change would bring. e_value, needed: the evidence, and how much is needed; None if the
    proposal does not rest on evidence.
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
