"""A decision made again: from the rules, and the counts, that it was made of."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from msgspec.structs import astuple

from allocator.decision import Decision, decide
from allocator.experiment import DecisionRules, Experiment, Group
from allocator.posterior.effective_trials import Count
from allocator.posterior.tables import posterior_tables

_ROUNDING = 1e-9  # of probabilities, between one processor and another


@dataclass(frozen=True)
class LoggedDecision:
    """A decision as the log has it, and what it was made of. `segment` is a number in the segmentation version."""

    user_key: bytes
    segment: int
    segmentation_version: int
    posterior_version: int
    revision: int
    decision: Decision


def replay(experiment: Experiment, rules: DecisionRules, logged: LoggedDecision, counts: Sequence[Count]) -> Decision:
    """What follows for the user of a logged decision.

    Args:
        experiment: as it is now.
        rules: of the decision's revision.
        counts: of its segmentation version, all that its posterior version knew: none for version 0, and none are
            needed for the holdout. Where the experiment has a maturity, the tables do not follow from them.

    Raises:
        InvalidTableError: counts that are not counts.
    """
    version = logged.posterior_version
    tables = posterior_tables(
        version,
        logged.segmentation_version,
        rules.variants,
        counts,
        # Version 0 is the prior, which knows nothing of who was there before whom.
        added_later={variant.number for variant in experiment.variants if version and variant.added_later},
    )
    then = replace(
        experiment,
        segmentation=rules.segmentation,
        holdout_share=rules.holdout_share,
        baseline_share=rules.baseline_share,
    )
    return decide(then, tables, logged.user_key, logged.segment)


def agree(again: Decision, logged: Decision) -> bool:
    """Whether a replay is what was logged, with the same probabilities.

    The holdout asks no posterior: what posteriors said of other groups is not compared there.
    """
    one, other = astuple(again), astuple(logged)
    compared = 4 if logged.group is Group.HOLDOUT else len(other)
    pairs = zip(one[3:compared], other[3:compared], strict=True)
    return one[:3] == other[:3] and all(abs(p - q) <= _ROUNDING for p, q in pairs)
