"""Composes what people are told about recommendations, and about segmentation that Samplit turned on or off itself."""

from datetime import datetime

from allocator.experiment import Experiment
from allocator.segmentation import Proposal, RecommendationKind
from allocator.wording import count_text, evidence_text, lift_text
from server.notifications.notices import NoticeKind, enqueue_notice
from storage.postgres.pool import Connection


async def notify_of_recommendation(
    connection: Connection, experiment: Experiment, proposal: Proposal, now: datetime
) -> None:
    """Ask people to decide about a new recommendation."""
    reasons = [_traffic(proposal)]
    if proposal.e_value is not None:
        reasons.append(f"evidence {_evidence(proposal)}")
    if proposal.expected is not None:
        reasons.append(f"expected lift {_lift(proposal)}")
    await enqueue_notice(
        connection,
        experiment,
        NoticeKind.RECOMMENDATION_MADE,
        now,
        what=proposal.summary,
        why="; ".join(reasons),
    )


async def notify_of_own_change(
    connection: Connection, before: Experiment, after: Experiment, proposal: Proposal, now: datetime
) -> None:
    """Tell people that Samplit has turned segmentation on or off itself, and that this serves now.

    before, after: the experiment as it was, and as it is. proposal: what Samplit did.
    """
    if proposal.kind is RecommendationKind.TURN_OFF:
        await enqueue_notice(
            connection,
            before,
            NoticeKind.SEGMENTATION_DEACTIVATED,
            now,
            what=_divided_by(before),
            why=proposal.summary,
            measured=f"{_lift(proposal)} expected from turning it off",
        )
    else:
        await enqueue_notice(
            connection,
            after,
            NoticeKind.SEGMENTATION_ACTIVATED,
            now,
            what=_divided_by(after),
            expected=_lift(proposal),
            evidence=_evidence(proposal),
            traffic=_traffic(proposal),
        )


def _divided_by(experiment: Experiment) -> str:
    return ", ".join(experiment.segmentation.segment_by) or "clusters"


def _traffic(proposal: Proposal) -> str:
    return f"{count_text(proposal.trials, 'user')} of {count_text(proposal.days, 'day')}"


def _evidence(proposal: Proposal) -> str:
    if proposal.e_value is None or proposal.needed is None:
        return "none is needed"
    return evidence_text(proposal.e_value, proposal.needed)


def _lift(proposal: Proposal) -> str:
    lift = proposal.expected
    return "not known" if lift is None else lift_text(lift.value, lift.lower, lift.upper)
