"""Converts eligibility, recommendations and measured lift to messages."""

from collections.abc import Mapping, Sequence

from samplit.admin.v1 import recommendation_service_pb2 as pb

from allocator.experiment import Experiment
from allocator.segmentation import DimensionReport, Eligibility, Proposal
from allocator.segments import display_name
from server.api.admin.messages import estimate_message, segmentation_config_message, set_estimate, timestamp
from server.api.admin.recommendations.reads import Freshness, SegmentationMetrics
from server.recommendations.findings import segment_by_name
from server.recommendations.measured_lift import SegmentLift
from storage.postgres.segmentation.recommendations import Recommendation


def recommendation_message(found: Recommendation, experiment: Experiment) -> pb.Recommendation:
    """Return a stored recommendation as a message."""
    message = proposal_message(found.proposal, experiment)
    message.recommendation_id = str(found.recommendation_id)
    message.state = pb.RecommendationState.Value(f"RECOMMENDATION_STATE_{found.state.value}")
    message.proposed_at.FromDatetime(found.proposed_at)
    message.renewed_at.FromDatetime(found.renewed_at)
    message.expires_at.FromDatetime(found.expires_at)
    if found.decided_at is not None:
        message.decided_at.FromDatetime(found.decided_at)
    message.decided_by = found.decided_by
    message.dismissed_because = found.dismissed_because
    return message


def proposal_message(proposal: Proposal, experiment: Experiment) -> pb.Recommendation:
    """Return a proposal as a message without an id."""
    winner = next((v.variant_id for v in experiment.variants if v.number == proposal.winner), "")
    return pb.Recommendation(
        experiment_id=experiment.experiment_id,
        kind=pb.RecommendationKind.Value(f"RECOMMENDATION_KIND_{proposal.kind.value}"),
        segment_by=proposal.segment_by,
        winner_variant_id=winner,
        summary=proposal.summary,
        expected_lift=estimate_message(proposal.expected),
        e_value=proposal.e_value,
        e_value_needed=proposal.needed,
        trials=proposal.trials,
        days=proposal.days,
    )


def check_message(
    eligibility: Eligibility, found: Sequence[pb.Recommendation], action: str
) -> pb.CheckEligibilityResponse:
    """Return what a check found."""
    missing = [condition.name for condition in eligibility.conditions if not condition.holds]
    return pb.CheckEligibilityResponse(
        eligible=eligibility.is_eligible,
        summary=f"not eligible: {', '.join(missing)}" if missing else "eligible: every condition holds",
        conditions=[
            pb.EligibilityCondition(name=each.name, holds=each.holds, detail=each.detail)
            for each in eligibility.conditions
        ],
        dimensions=[_dimension(each) for each in eligibility.dimensions],
        recommendations=found,
        action=action,
    )


def metrics_message(metrics: SegmentationMetrics) -> pb.GetSegmentationMetricsResponse:
    """Return what the serving segmentation brought."""
    experiment, measured, keys = metrics.experiment, metrics.measured, metrics.segment_keys
    message = pb.GetSegmentationMetricsResponse(
        mode=segmentation_config_message(experiment.segmentation).mode,
        serves_since=timestamp(metrics.serves_since),
    )
    if measured is None:
        message.segments_count = 1
        message.basis = "it is not segmented"
        return message
    message.segments_count = len(keys)
    set_estimate(message.avg_lift, measured.lift)
    message.basis = f"{measured.trials:,} users since it serves, as old as the maturity, by their logged probabilities"
    known = [each for each in measured.segments if each.lift is not None]
    if known:
        message.best_segment.CopyFrom(_segment(experiment, max(known, key=_lift), keys))
        message.worst_segment.CopyFrom(_segment(experiment, min(known, key=_lift), keys))
    for day in measured.days:
        message.days.add(begins_at=timestamp(day.begins_at), trials=day.trials, lift=estimate_message(day.lift))
    set_estimate(message.expected_lift, measured.expected)
    if measured.vanished is not None:
        message.vanished = measured.vanished
    return message


def freshness_message(freshness: Freshness) -> pb.Freshness:
    """Return when the data of an experiment last changed."""
    return pb.Freshness(
        last_assignment_at=timestamp(freshness.last_assignment_at),
        last_conversion_at=timestamp(freshness.last_conversion_at),
        posterior_published_at=timestamp(freshness.posterior_published_at),
        model_trained_at=timestamp(freshness.model_trained_at),
        checked_at=timestamp(freshness.checked_at),
        drain_lag_seconds=freshness.drain_lag_seconds,
    )


def _dimension(report: DimensionReport) -> pb.DimensionEligibility:
    evidence = report.evidence
    return pb.DimensionEligibility(
        dimension=segment_by_name(report.dimension),
        coverage=report.coverage,
        largest_share=report.largest_share,
        segments=report.segments,
        e_value=None if evidence is None else evidence.e_value,
        e_value_needed=None if evidence is None else evidence.needed,
        every_variant_is_beaten=evidence is not None and evidence.every_arm_is_beaten,
        expected_lift=estimate_message(report.expected),
        problem=report.problem,
    )


def _segment(experiment: Experiment, measured: SegmentLift, keys: Mapping[int, str]) -> pb.SegmentMetrics:
    key = keys[measured.segment]
    return pb.SegmentMetrics(
        segment_key=key,
        segment_display_name=display_name(key, experiment.cluster_names),
        trials=measured.trials,
        rate=measured.rate,
        lift=estimate_message(measured.lift),
    )


def _lift(measured: SegmentLift) -> float:
    return measured.lift.value if measured.lift else 0.0
