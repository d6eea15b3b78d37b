"""Doing what is recommended, for whoever accepts it."""

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
from storage.postgres.segmentation.serving_state import AdaptationState

_BASELINE_SHARE, _BASELINE_TIME = 0.2, timedelta(days=30)  # at first, after an automatic activation
_MODES = {
    RecommendationKind.SEGMENT_BY: SegmentationMode.MANUAL,
    RecommendationKind.ADD_DIMENSION: SegmentationMode.MANUAL,
    RecommendationKind.DROP_DIMENSION: SegmentationMode.MANUAL,
    RecommendationKind.USE_CLUSTERS: SegmentationMode.AUTO,
    RecommendationKind.TURN_OFF: SegmentationMode.DISABLED,
}


async def apply(
    connection: Connection, experiment: Experiment, recommendation: Recommendation, actor: str, now: datetime
) -> Experiment:
    """Do it, audited; the experiment as it is then. The caller holds it FOR UPDATE, and publishes it afterwards."""
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
            origin = Origin(recommendation.recommendation_id, _expected(proposal, state))
            await begin_segmentation(connection, experiment, _MODES[kind], proposal.segment_by, actor, now, origin)
            baseline = await _baseline(connection, experiment, state, kind, actor, now)
            wanted = replace(experiment, baseline_share=baseline)
            after = await experiments.update(connection, wanted, now)
    was, is_now = _difference(experiment, after, proposal)
    is_now |= {"recommendation_id": str(recommendation.recommendation_id), "summary": proposal.summary}
    await audit.record(connection, experiment.number, actor, "recommendation.accept", was, is_now, now)
    return after


def _finished(experiment: Experiment, proposal: Proposal, now: datetime) -> Experiment:
    winner = next(variant for variant in experiment.variants if variant.number == proposal.winner)
    return replace(experiment, state=ExperimentState.COMPLETED, completed_at=now, winner_variant_id=winner.variant_id)


def _difference(before: Experiment, after: Experiment, proposal: Proposal) -> tuple[dict[str, Any], dict[str, Any]]:
    """What changes, or will once it is prepared."""
    was: dict[str, Any] = {}
    is_now: dict[str, Any] = {}
    mode = _MODES.get(proposal.kind)
    if mode is not None:
        was |= {"mode": before.segmentation.mode.value, "segment_by": list(before.segmentation.segment_by)}
        is_now |= {"mode": mode.value, "segment_by": list(proposal.segment_by)}
    if after.state is not before.state:
        was["state"] = before.state.value
        is_now |= {"state": after.state.value, "winner_variant_id": after.winner_variant_id}
    if after.baseline_share != before.baseline_share:
        was["baseline_share"], is_now["baseline_share"] = before.baseline_share, after.baseline_share
    return was, is_now


def _expected(proposal: Proposal, state: AdaptationState) -> Estimate | None:
    """Of the whole segmentation: one dimension more brings its own lift on top, one fewer takes nothing away."""
    match proposal.kind:
        case RecommendationKind.SEGMENT_BY:
            return proposal.expected
        case RecommendationKind.DROP_DIMENSION:
            return state.expected
        case RecommendationKind.ADD_DIMENSION if state.expected is not None and proposal.expected is not None:
            before, more = state.expected, proposal.expected
            error = math.hypot(before.standard_error, more.standard_error)
            return Estimate(before.value + more.value, error)
        case _:
            return None


async def _baseline(
    connection: Connection,
    experiment: Experiment,
    state: AdaptationState,
    kind: RecommendationKind,
    actor: str,
    now: datetime,
) -> float:
    """The share of users who are served unsegmented: more at first, where nobody has looked at what is turned on."""
    usual = experiment.baseline_share if state.baseline_share_after is None else state.baseline_share_after
    if actor != audit.SAMPLIT or kind is RecommendationKind.TURN_OFF or usual >= _BASELINE_SHARE:
        await serving_state.plan_baseline(connection, experiment.number, None, None)
        return usual
    await serving_state.plan_baseline(connection, experiment.number, usual, now + _BASELINE_TIME)
    return min(_BASELINE_SHARE, 1 - experiment.holdout_share)
