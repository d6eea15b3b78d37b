"""Whether to segment, by what, whether it pays, and when to stop: decided from aggregates, without I/O."""

from allocator.adaptation.counts import DimensionCounts
from allocator.adaptation.eligibility import Condition, DimensionReport, Eligibility, check_eligibility
from allocator.adaptation.expected import expected_lift
from allocator.adaptation.keep import DECISIVE, HARMFUL, harm_e_value, vanished_statistic
from allocator.adaptation.recommendation import Proposal, RecommendationKind
from allocator.adaptation.winner import winner_everywhere

__all__ = [
    "DECISIVE",
    "HARMFUL",
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
