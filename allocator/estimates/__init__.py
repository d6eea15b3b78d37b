"""Estimates from sums over the log of assignments, which are valid although the allocation is adaptive.

They are pure functions of arrays. They must not know of I/O, experiments or configuration. An estimate is None if the
data are too few for it.
"""

from allocator.estimates.chances import Chances, chances, expected_loss
from allocator.estimates.estimate import Estimate
from allocator.estimates.lifts import adaptive_lift, segmentation_lift, segmentation_lift_by_period
from allocator.estimates.log import Array, LoggedAssignments, WeightSums, sum_assignments
from allocator.estimates.rates import variant_contrast, variant_rate
from allocator.estimates.sample_ratio import sample_ratio_p_value

__all__ = [
    "Array",
    "Chances",
    "Estimate",
    "LoggedAssignments",
    "WeightSums",
    "adaptive_lift",
    "chances",
    "expected_loss",
    "sample_ratio_p_value",
    "segmentation_lift",
    "segmentation_lift_by_period",
    "sum_assignments",
    "variant_contrast",
    "variant_rate",
]
