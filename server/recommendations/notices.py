"""What people are told of recommendations, and of what Samplit does by itself."""

from datetime import datetime

from allocator.experiment import Experiment
from allocator.segmentation import Proposal, RecommendationKind
from server.notifications.notices import NoticeKind, post
from storage.postgres.pool import Connection


async def tell_recommended(connection: Connection, experiment: Experiment, proposal: Proposal, now: datetime) -> None:
    """People are asked to decide."""
    parts = [_traffic(proposal)]
    if proposal.e_value is not None:
        parts.append(f"evidence {_evidence(proposal)}")
    if proposal.expected is not None:
        parts.append(f"expected lift {_lift(proposal)}")
    why = "; ".join(parts)
    await post(connection, experiment, NoticeKind.RECOMMENDATION_MADE, now, what=proposal.summary, why=why)


async def tell_done(
    connection: Connection, before: Experiment, after: Experiment, proposal: Proposal, now: datetime
) -> None:
    """Samplit has turned segmentation on or off, by a proposal of its own, and that serves now."""
    if proposal.kind is RecommendationKind.TURN_OFF:
        await post(
            connection,
            before,
            NoticeKind.SEGMENTATION_DEACTIVATED,
            now,
            what=_divided_by(before),
            why=proposal.summary,
            measured=f"{_lift(proposal)} to be expected of turning it off",
        )
    else:
        await post(
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
    return f"{proposal.trials:,} users of {proposal.days} days"


def _evidence(proposal: Proposal) -> str:
    if proposal.e_value is None or proposal.needed is None:
        return "none is needed"
    return f"{proposal.e_value:,.3g} of {proposal.needed:,.0f} needed"


def _lift(proposal: Proposal) -> str:
    lift = proposal.expected
    if lift is None:
        return "not known"
    return f"{lift.value:+.2%} (90 % interval {lift.lower:+.2%} to {lift.upper:+.2%})"
