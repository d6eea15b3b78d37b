"""Accepting a recommendation: the experiment is changed, whoever accepts it.

It writes the database. Publishing the changed experiment is for the caller.
"""

import math
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from allocator.estimates import Estimate
from allocator.experiment import Experiment, ExperimentState, SegmentationMode
from allocator.segmentation import Proposal, RecommendationKind
from server.recommendations.begin_segmentation import begin_segmentation
from storage.postgres.experiments import experiments
from storage.postgres.operations import audit
from storage.postgres.pool import Connection
from storage.postgres.segmentation import recommendations, serving_state, trainings
from storage.postgres.segmentation.recommendations import Recommendation
from storage.postgres.segmentation.segmentations import Origin
from storage.postgres.segmentation.serving_state import ServingState

_FIRST_BASELINE_SHARE = 0.2  # at first, where Samplit turned segmentation on itself
_FIRST_BASELINE_TIME = timedelta(days=30)
_MODES = {
    RecommendationKind.SEGMENT_BY: SegmentationMode.MANUAL,
    RecommendationKind.ADD_DIMENSION: SegmentationMode.MANUAL,
    RecommendationKind.DROP_DIMENSION: SegmentationMode.MANUAL,
    RecommendationKind.USE_CLUSTERS: SegmentationMode.AUTO,
    RecommendationKind.TURN_OFF: SegmentationMode.DISABLED,
}


async def accept_recommendation(
    connection: Connection, experiment: Experiment, recommendation: Recommendation, actor: str, now: datetime
) -> Experiment:
    """Accept a recommendation, do what it says, and record both in the audit log. Return the changed experiment.

    The caller holds the experiment FOR UPDATE, has checked that the recommendation may still be accepted, and publishes
    the experiment after the transaction. actor: who accepts it.
    """
    proposal = recommendation.proposal
    await recommendations.accept(connection, recommendation.recommendation_id, actor, now)
    match proposal.kind:
        case RecommendationKind.TRAIN_CLUSTERS:
            await trainings.request(connection, experiment.number, actor, now)
            after = experiment
        case RecommendationKind.FINISH:
            await recommendations.withdraw(connection, experiment.number)
            after = await experiments.update(connection, _finished(experiment, proposal, now), now)
        case kind:
            state = await serving_state.state(connection, experiment.number)
            origin = Origin(recommendation.recommendation_id, _expected_lift(proposal, state))
            await begin_segmentation(connection, experiment, _MODES[kind], proposal.segment_by, actor, now, origin)
            share = await _set_baseline_share(connection, experiment, state, kind, actor, now)
            after = await experiments.update(connection, replace(experiment, baseline_share=share), now)
    old, new = _audited_difference(experiment, after, proposal)
    new |= {"recommendation_id": str(recommendation.recommendation_id), "summary": proposal.summary}
    await audit.record(connection, experiment.number, actor, "recommendation.accept", old, new, now)
    return after


def _finished(experiment: Experiment, proposal: Proposal, now: datetime) -> Experiment:
    winner = next(variant for variant in experiment.variants if variant.number == proposal.winner)
    return replace(experiment, state=ExperimentState.COMPLETED, completed_at=now, winner_variant_id=winner.variant_id)


def _audited_difference(
    before: Experiment, after: Experiment, proposal: Proposal
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the old and new values of what the proposal changes, now or once the segmentation is prepared."""
    old: dict[str, Any] = {}
    new: dict[str, Any] = {}
    mode = _MODES.get(proposal.kind)
    if mode is not None:
        old |= {"mode": before.segmentation.mode.value, "segment_by": list(before.segmentation.segment_by)}
        new |= {"mode": mode.value, "segment_by": list(proposal.segment_by)}
    if after.state is not before.state:
        old["state"] = before.state.value
        new |= {"state": after.state.value, "winner_variant_id": after.winner_variant_id}
    if after.baseline_share != before.baseline_share:
        old["baseline_share"], new["baseline_share"] = before.baseline_share, after.baseline_share
    return old, new


def _expected_lift(proposal: Proposal, state: ServingState) -> Estimate | None:
    """Return the lift expected of the whole segmentation after the proposal; None where none is known.

    The lift of an added dimension is on top of the lift expected so far. Dropping a useless dimension changes nothing.
    """
    match proposal.kind:
        case RecommendationKind.SEGMENT_BY:
            return proposal.expected
        case RecommendationKind.DROP_DIMENSION:
            return state.expected
        case RecommendationKind.ADD_DIMENSION if state.expected is not None and proposal.expected is not None:
            so_far, added = state.expected, proposal.expected
            error = math.hypot(so_far.standard_error, added.standard_error)
            return Estimate(so_far.value + added.value, error)
        case _:
            return None


async def _set_baseline_share(
    connection: Connection,
    experiment: Experiment,
    state: ServingState,
    kind: RecommendationKind,
    actor: str,
    now: datetime,
) -> float:
    """Return the share of users who are served by the unsegmented posterior from now on.

    Where Samplit turns segmentation on itself, nobody has checked it: the share is larger for 30 days, so that a lift
    that fails is noticed soon. The usual share is stored and comes back afterwards.
    """
    usual = experiment.baseline_share if state.baseline_share_after is None else state.baseline_share_after
    if actor != audit.SAMPLIT or kind is RecommendationKind.TURN_OFF or usual >= _FIRST_BASELINE_SHARE:
        await serving_state.plan_baseline(connection, experiment.number, None, None)
        return usual
    await serving_state.plan_baseline(connection, experiment.number, usual, now + _FIRST_BASELINE_TIME)
    return min(_FIRST_BASELINE_SHARE, 1 - experiment.holdout_share)
