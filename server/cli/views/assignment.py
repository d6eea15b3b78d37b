"""Why a user got a variant, as sentences and a table. Texts of users are never taken as markup."""

from rich.table import Table
from samplit.admin.v1.experiment_service_pb2 import AssignmentGroup, ExplainAssignmentResponse
from samplit.allocation.v1.allocation_service_pb2 import (
    REASON_BASELINE,
    REASON_FALLBACK,
    REASON_HOLDOUT,
    Reason,
)

from server.cli.views.formats import fields_table, format_time


def because(user: str, answer: ExplainAssignmentResponse) -> str:
    """Say in a sentence or two why the user got the variant."""
    sentence = f"{user} got {answer.variant.variant_id} because {_reason(answer)}."
    if answer.variant.retired:
        sentence += " It is retired by now: the user is given the control variant."
    return sentence


def explanation_fields(answer: ExplainAssignmentResponse) -> Table:
    """Show a row for each thing that was logged of the assignment."""
    answered, credited, chances = answer.answered_segment, answer.credited_segment, answer.propensities
    fields = {
        "assignment": answer.assignment_id,
        "variant": f"{answer.variant.variant_id} ({answer.variant.name})",
        "assigned": format_time(answer.assigned_at),
        "converted": _converted(answer),
        "segment": f"{answered.segment_display_name} ({answered.segment_key})",
    }
    if credited != answered:
        fields["now counted in"] = f"{credited.segment_display_name} ({credited.segment_key})"
    fields |= {
        "reason": Reason.Name(answer.reason).removeprefix("REASON_"),
        "group": AssignmentGroup.Name(answer.group).removeprefix("ASSIGNMENT_GROUP_"),
        "probability, as drawn": _percent(chances.drawn),
        "before the group is known": _percent(chances.marginal),
        "by the segment's posterior": _percent(chances.q_segment),
        "by everyone's posterior": _percent(chances.q_global),
        "posterior version": f"{answer.posterior_version:,}",
        "segmentation version": str(answer.segmentation_version),
        "configuration": f"r{answer.config_revision}",
        "context": "\n".join(f"{name}: {value}" for name, value in sorted(answer.context.items())),
    }
    return fields_table(fields)


def replayed(answer: ExplainAssignmentResponse) -> str:
    """Say whether the log leads to the same variant again."""
    replay = answer.replay
    if replay.agrees:
        verb = "gives" if answer.reason == REASON_HOLDOUT else "draws"
        return f"A replay from the log {verb} the same variant, with the same probability."
    if not replay.variant_id:
        return f"No replay is possible: {replay.problem}."
    drawn = "the same variant" if replay.variant_id == answer.variant.variant_id else replay.variant_id
    return (
        f"A replay from the log draws {drawn}, with a probability of {_percent(replay.propensity)}: {replay.problem}."
    )


def _reason(answer: ExplainAssignmentResponse) -> str:
    segment = answer.answered_segment
    drawn = f"it had a chance of {_percent(answer.propensities.drawn)} and was drawn"
    learned = " before anything was learned" if answer.posterior_version == 0 else ""
    if answer.reason == REASON_HOLDOUT:
        return "the user is in the holdout, which gets the control variant whatever is learned"
    if answer.reason == REASON_BASELINE:
        return f"the user is in the baseline, which is served as if there were no segments; {drawn}{learned}"
    if answer.reason == REASON_FALLBACK:
        name = segment.segment_display_name
        return f"the segment {name} had too few users, so that everyone's posterior decided; {drawn}{learned}"
    where = "" if segment.segment_key == "global" else f"in the segment {segment.segment_display_name} "
    return f"{where}{drawn}{learned}"


def _converted(answer: ExplainAssignmentResponse) -> str:
    if not answer.HasField("converted_at"):
        return "no"
    late = "" if answer.converted else ", too late to count"
    return f"{format_time(answer.converted_at)}{late}"


def _percent(probability: float) -> str:
    return f"{probability:.1%}"
