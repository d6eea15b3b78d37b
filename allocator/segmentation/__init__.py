"""Whether to segment an experiment and by what, whether that pays, and when to stop: all from counts, without I/O."""

from allocator.segmentation.dimension_counts import DimensionCounts
from allocator.segmentation.eligibility import Condition, DimensionReport, Eligibility, check_eligibility
from allocator.segmentation.expected_lift import expected_lift
from allocator.segmentation.recommendation import Proposal, RecommendationKind
from allocator.segmentation.turning_off import HARM_BOUND, VANISHED_BOUND, harm_e_value, vanished_statistic
from allocator.segmentation.winner import winner_everywhere

__all__ = [
    "HARM_BOUND",
    "VANISHED_BOUND",
    "Condition",
    "DimensionCounts",
    "DimensionReport",
    "Eligibility",
    "Proposal",
    "RecommendationKind",
    "check_eligibility",
    "expected_lift",
    "harm_e_value",
    "vanished_statistic",
    "winner_everywhere",
]
