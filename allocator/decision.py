"""The decision for one user: group, posterior row, draw, and the exact probability of what was drawn."""

from typing import NamedTuple

from allocator.experiment import Experiment, Group, Reason
from allocator.hashing import draw_seed, group_position, redraw_seed
from allocator.kernels import draw_best_arm
from allocator.posterior import PosteriorTables


class Decision(NamedTuple):
    """What was drawn, and its probabilities: what inverse-propensity estimates need.

    propensity: of the variant, given the group that the user is in.
    marginal: of the variant, before the group is known.
    q_segment, q_global: of the variant, in the adaptive and in the baseline group.
    """

    variant: int
    reason: Reason
    group: Group
    propensity: float
    marginal: float
    q_segment: float
    q_global: float


def decide(experiment: Experiment, tables: PosteriorTables, key: bytes, segment: int) -> Decision:
    """Decide for the user `key` in the segment of this number.

    A function of its arguments alone: the random stream is seeded by the experiment's salt, the user key and the
    posterior version.
    """
    segmented = bool(experiment.segmentation.segment_by)
    row = tables.rows.get(segment, 0) if segmented else 0
    if tables.trials[row] < experiment.segmentation.min_samples_per_segment:
        row = 0
    baseline_share = experiment.baseline_share if segmented else 0.0
    group = _group(group_position(experiment.salt, key), experiment.holdout_share, baseline_share)
    control = tables.arm_of[experiment.control.number]
    if group is Group.HOLDOUT:
        arm = control
        reason = Reason.HOLDOUT
    else:
        arm = _draw(experiment.salt, tables, key, 0 if group is Group.BASELINE else row)
        reason = Reason.BASELINE if group is Group.BASELINE else _adaptive_reason(segmented, row)
    q_segment = float(tables.chance[row, arm])
    q_global = float(tables.chance[0, arm])
    in_control = 1.0 if arm == control else 0.0
    holdout = experiment.holdout_share
    return Decision(
        variant=tables.variants[arm],
        reason=reason,
        group=group,
        propensity={Group.ADAPTIVE: q_segment, Group.BASELINE: q_global, Group.HOLDOUT: in_control}[group],
        marginal=holdout * in_control + (1 - holdout) * (baseline_share * q_global + (1 - baseline_share) * q_segment),
        q_segment=q_segment,
        q_global=q_global,
    )


def _draw(salt: bytes, tables: PosteriorTables, key: bytes, row: int) -> int:
    """Thompson sampling over a floor. An arm held back is taken just so often that its chance is at most 1/K."""
    arm: int = draw_best_arm(tables.constants, row, tables.floor, *draw_seed(salt, key, tables.version))
    if arm not in tables.held_back:
        return arm
    position, first, second = redraw_seed(salt, key, tables.version)
    arms = len(tables.variants)
    if position * (tables.floor + (1 - arms * tables.floor) * tables.best[row, arm]) < 1 / arms:
        return arm
    other: int = draw_best_arm(tables.established_constants, row, 0.0, first, second)
    return tables.established[other]


def _group(position: float, holdout_share: float, baseline_share: float) -> Group:
    """Nested thresholds: a share that grows takes new users in, and keeps those it has."""
    if position < holdout_share:
        return Group.HOLDOUT
    # The baseline is measured from the other end, so that neither share moves the other's users.
    if 1 - position <= (1 - holdout_share) * baseline_share:
        return Group.BASELINE
    return Group.ADAPTIVE


def _adaptive_reason(segmented: bool, row: int) -> Reason:
    return Reason.FALLBACK if segmented and row == 0 else Reason.SAMPLED
