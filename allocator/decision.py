"""The decision for one user: group, posterior row, draw, and the exact probability of what was drawn."""

from dataclasses import dataclass

from allocator.experiment import Experiment, Group, Reason
from allocator.hashing import draw_seed, group_position
from allocator.kernels import draw_best_arm
from allocator.posterior import PosteriorTables


@dataclass(frozen=True)
class Decision:
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
    floor = tables.floor
    if group is Group.HOLDOUT:
        arm = control
        reason = Reason.HOLDOUT
    else:
        drawn_row = 0 if group is Group.BASELINE else row
        first, second = draw_seed(experiment.salt, key, tables.version)
        arm = draw_best_arm(tables.constants, drawn_row, floor, first, second)
        reason = Reason.BASELINE if group is Group.BASELINE else _adaptive_reason(segmented, row)
    mixture = 1 - len(tables.variants) * floor
    q_segment = floor + mixture * float(tables.best[row, arm])
    q_global = floor + mixture * float(tables.best[0, arm])
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
