"""Making a logged decision again, from the rules and the counts that it followed."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from allocator.decision import Decision, decide
from allocator.experiment import DecisionRules, Experiment, Group
from allocator.posterior.effective_trials import Count
from allocator.posterior.tables import posterior_tables

_ROUNDING = 1e-9  # by which probabilities may differ between two processors


@dataclass(frozen=True)
class LoggedDecision:
    """A decision as the log has it, and the versions that it followed.

    segment: a segment number under `segmentation_version`. revision: of the experiment's configuration.
    """

    user_key: bytes
    segment: int
    segmentation_version: int
    posterior_version: int
    revision: int
    decision: Decision


def redecide(experiment: Experiment, rules: DecisionRules, logged: LoggedDecision, counts: Sequence[Count]) -> Decision:
    """Decide again for the user of a logged decision.

    Args:
        experiment: as it is now.
        rules: of the configuration revision that the decision followed.
        counts: all counts of the decision's segmentation version that its posterior version was made of. Version 0 is
            made of none, and the holdout needs none. If the experiment has a maturity, the tables cannot be made from
            the counts alone.

    Raises:
        InvalidTableError: the counts are not counts.
    """
    version = logged.posterior_version
    tables = posterior_tables(
        version,
        logged.segmentation_version,
        rules.variants,
        counts,
        # Version 0 is the prior, which holds no variant back.
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
    """Return whether a decision made again is the logged one, with the same probabilities.

    The holdout does not depend on a posterior, so the probabilities of the other groups are not compared there.
    """
    if (again.variant, again.reason, again.group) != (logged.variant, logged.reason, logged.group):
        return False
    pairs = [(again.propensity, logged.propensity)]
    if logged.group is not Group.HOLDOUT:
        pairs += [
            (again.marginal, logged.marginal),
            (again.q_segment, logged.q_segment),
            (again.q_global, logged.q_global),
        ]
    return all(abs(one - other) <= _ROUNDING for one, other in pairs)
