"""Estimates that an analyst would sign, from sums over the log of assignments.

Pure functions of arrays: no I/O, no experiment, no configuration. What is not known well enough is None.
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
