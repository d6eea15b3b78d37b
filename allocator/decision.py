"""The decision for one user: the group, the posterior row, the draw, and the exact probability of the draw."""

import msgspec

from allocator.experiment import Experiment, Group, Reason
from allocator.hashing import redraw_seed, user_words
from allocator.kernels import draw_best_arm
from allocator.posterior.tables import PosteriorTables


class Decision(msgspec.Struct, frozen=True, gc=False):
    """The variant drawn, and the probabilities of drawing it that inverse-propensity estimates need.

    propensity: given the group that the user is in.
    marginal: before the group is known.
    q_segment, q_global: in the adaptive group and in the baseline group.
    """

    variant: int
    reason: Reason
    group: Group
    propensity: float
    marginal: float
    q_segment: float
    q_global: float


def decide(experiment: Experiment, tables: PosteriorTables, key: bytes, segment: int) -> Decision:
    """Decide for the user `key`, who is in the segment with the number `segment`.

    The result depends on the arguments alone: the experiment's salt, the user key and the posterior version seed the
    random stream.
    """
    segmented = experiment.segmentation.divides
    row = tables.rows.get(segment, 0) if segmented else 0
    if row and tables.row_trials[row] < experiment.segmentation.min_samples_per_segment:
        row = 0
    holdout = experiment.holdout_share
    baseline = experiment.baseline_share if segmented else 0.0
    position, first, second = user_words(experiment.salt, key)
    group = _group(position, holdout, baseline)
    control = tables.arm_of[experiment.control_number]
    if group is Group.HOLDOUT:
        arm = control
        reason = Reason.HOLDOUT
    elif group is Group.BASELINE:
        arm = _draw(experiment.salt, tables, key, 0, first, second)
        reason = Reason.BASELINE
    else:
        arm = _draw(experiment.salt, tables, key, row, first, second)
        reason = Reason.FALLBACK if segmented and row == 0 else Reason.SAMPLED
    q_segment = tables.row_chances[row][arm]
    q_global = tables.row_chances[0][arm]
    in_control = 1.0 if arm == control else 0.0
    marginal = holdout * in_control + (1 - holdout) * (baseline * q_global + (1 - baseline) * q_segment)
    propensity = in_control if group is Group.HOLDOUT else q_global if group is Group.BASELINE else q_segment
    return Decision(tables.variants[arm], reason, group, propensity, marginal, q_segment, q_global)


def _draw(salt: bytes, tables: PosteriorTables, key: bytes, row: int, first: int, second: int) -> int:
    """Draw an arm by Thompson sampling over a floor.

    If the arm is held back, keep it just so often that its probability is at most 1/K, and otherwise draw another one.
    """
    arm: int = draw_best_arm(tables.constants, row, tables.floor, first ^ tables.version_word, second)
    if arm not in tables.held_back:
        return arm
    position, first, second = redraw_seed(salt, key, tables.version)
    arms = len(tables.variants)
    if position * (tables.floor + (1 - arms * tables.floor) * tables.best[row, arm]) < 1 / arms:
        return arm
    other: int = draw_best_arm(tables.established_constants, row, 0.0, first, second)
    return tables.established[other]


def _group(position: float, holdout_share: float, baseline_share: float) -> Group:
    """Return the group of a user. A group whose share grows gets new users and keeps all that it has."""
    if position < holdout_share:
        return Group.HOLDOUT
    # The baseline takes users from the other end, so that a change of one share moves no user of the other group.
    if 1 - position <= (1 - holdout_share) * baseline_share:
        return Group.BASELINE
    return Group.ADAPTIVE
