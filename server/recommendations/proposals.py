"""Proposals: from findings to what is recommended. It reads and writes nothing."""

from dataclasses import dataclass, replace
from datetime import timedelta

from allocator.estimates import Estimate
from allocator.experiment import ExperimentState, SegmentationMode
from allocator.segmentation import (
    HARM_BOUND,
    VANISHED_BOUND,
    DimensionReport,
    Proposal,
    RecommendationKind,
    winner_everywhere,
)
from allocator.segmentation.evidence import ERROR
from allocator.wording import percent_text
from server.recommendations.conditional_evidence import ConditionalEvidence
from server.recommendations.findings import Findings, segment_by_name

_CLUSTERS_FROM_VISITORS = 10_000  # a day
_CLUSTERS_FROM_DIMENSIONS = 2  # with one, its values are the clusters
_FULL_WEEK = 7  # days: users of weekdays and weekends differ
_CLUSTERS_TRIED_FOR = timedelta(days=30)
_MOST_FAR_SHARE = 0.05  # of users who are far from every cluster
_MOST_SHARE_SHIFT = 0.2  # of users by whom the sizes of the clusters have shifted


@dataclass(frozen=True)
class _Basis:
    """How many mature users were counted, and on how many days they came."""

    trials: int
    days: int


def make_proposals(findings: Findings) -> list[Proposal]:
    """Return what to recommend, the best first.

    Nothing is recommended while another segmentation is being prepared, or where the experiment does not run.
    """
    if findings.experiment.state is not ExperimentState.RUNNING or findings.pending_segmentation is not None:
        return []
    if findings.experiment.segmentation.mode is SegmentationMode.DISABLED:
        return [*_segment_by(findings), *_use_clusters(findings)] or _finish(findings)
    return [
        *_turn_off(findings),
        *_add_dimension(findings),
        *_drop_dimension(findings),
        *_train_clusters(findings),
    ]


def _segment_by(findings: Findings) -> list[Proposal]:
    if not findings.eligibility.is_eligible:
        return []
    good = [each for each in findings.eligibility.dimensions if not each.problem]
    return [_segment_by_dimension(each) for each in sorted(good, key=_expected_value, reverse=True)]


def _segment_by_dimension(report: DimensionReport) -> Proposal:
    evidence = report.evidence
    name = segment_by_name(report.dimension)
    return Proposal(
        RecommendationKind.SEGMENT_BY,
        f"segment by {name}",
        report.trials,
        report.days,
        segment_by=(name,),
        expected=report.expected,
        e_value=None if evidence is None else evidence.e_value,
        needed=None if evidence is None else evidence.needed,
    )


def _use_clusters(findings: Findings) -> list[Proposal]:
    """Propose clusters where there is enough traffic, and more than one dimension to find them in.

    No evidence is asked for: clusters that do not differ cost little.
    """
    met = {condition.name for condition in findings.eligibility.conditions if condition.holds}
    usable = [each for each in findings.eligibility.dimensions if each.evidence is not None]
    basis = _basis(findings)
    if (
        not {"state", "rest", "traffic", "days"} <= met
        or findings.peak_visitors < _CLUSTERS_FROM_VISITORS
        or len(usable) < _CLUSTERS_FROM_DIMENSIONS
        or basis.days < _FULL_WEEK
    ):
        return []
    return [
        Proposal(
            RecommendationKind.USE_CLUSTERS,
            f"segment by clusters: {findings.peak_visitors:,} visitors a day are enough to tell audiences apart",
            basis.trials,
            basis.days,
        )
    ]


def _turn_off(findings: Findings) -> list[Proposal]:
    measured = findings.measured_lift
    if measured is None:
        return []
    if measured.vanished is not None and measured.vanished >= VANISHED_BOUND:
        reason = "the expected lift has vanished"
    elif measured.harm >= HARM_BOUND:
        reason = "users convert less often than without segments"
    elif _clusters_show_no_benefit(findings):
        reason = "in 30 days there was no evidence that clusters want different variants"
    else:
        return []
    lift = measured.lift
    return [
        Proposal(
            RecommendationKind.TURN_OFF,
            f"turn segmentation off: {reason}",
            measured.trials,
            len(measured.days),
            expected=None if lift is None else Estimate(-lift.value, lift.standard_error),
        )
    ]


def _clusters_show_no_benefit(findings: Findings) -> bool:
    """Return whether recommended clusters have served for 30 days without a lift expected or evidence found."""
    since, evidence, measured = findings.state.serves_since, findings.segment_evidence, findings.measured_lift
    return (
        findings.experiment.segmentation.mode is SegmentationMode.AUTO
        and since is not None
        and findings.now - since >= _CLUSTERS_TRIED_FOR
        and findings.state.recommendation_id is not None
        and (measured is None or measured.expected is None)
        and (evidence is None or not evidence.is_enough)
    )


def _add_dimension(findings: Findings) -> list[Proposal]:
    serving = findings.experiment.segmentation.segment_by
    good = [
        each
        for each in findings.dimension_changes.to_add
        if each.e_value >= each.needed
        and each.every_arm_is_beaten
        and each.expected is not None
        and each.expected.lower > 0
    ]
    return [
        _change_dimensions(RecommendationKind.ADD_DIMENSION, f"also segment by {name}", each, (*serving, name))
        for each in sorted(good, key=_expected_value, reverse=True)
        for name in (segment_by_name(each.dimension),)
    ]


def _drop_dimension(findings: Findings) -> list[Proposal]:
    """Propose to drop the dimension that the data speak against most: 20 times likelier without it, or more."""
    useless = [each for each in findings.dimension_changes.to_drop if each.e_value <= ERROR]
    if not useless:
        return []
    least = min(useless, key=lambda each: each.e_value)
    name = segment_by_name(least.dimension)
    left = tuple(each for each in findings.experiment.segmentation.segment_by if each != name)
    summary = f"stop segmenting by {name}: it makes no difference beside {', '.join(left)}"
    return [_change_dimensions(RecommendationKind.DROP_DIMENSION, summary, _evidence_against(least), left)]


def _evidence_against(evidence: ConditionalEvidence) -> ConditionalEvidence:
    """Turn the evidence for a dimension into the evidence that it makes no difference."""
    return replace(evidence, e_value=1 / evidence.e_value, needed=1 / ERROR, expected=None)


def _change_dimensions(
    kind: RecommendationKind, summary: str, evidence: ConditionalEvidence, segment_by: tuple[str, ...]
) -> Proposal:
    return Proposal(
        kind,
        summary,
        evidence.trials,
        evidence.days,
        segment_by=segment_by,
        expected=evidence.expected,
        e_value=evidence.e_value,
        needed=evidence.needed,
    )


def _train_clusters(findings: Findings) -> list[Proposal]:
    drift = findings.drift
    if drift is None or (drift.far_share < _MOST_FAR_SHARE and drift.share_shift < _MOST_SHARE_SHIFT):
        return []
    basis = _basis(findings)
    summary = (
        f"train the clusters again: {percent_text(drift.far_share)} of the users of the last seven days are far from "
        f"every cluster, and the sizes of the clusters have shifted by {percent_text(drift.share_shift)}"
    )
    return [Proposal(RecommendationKind.TRAIN_CLUSTERS, summary, basis.trials, basis.days)]


def _finish(findings: Findings) -> list[Proposal]:
    """Propose to finish where one variant is the best, and there is no evidence that some users want another.

    It is asked only where the experiment is not segmented, since all users must have been drawn for alike.
    """
    basis = _basis(findings)
    if findings.all_users is None or basis.days < _FULL_WEEK:
        return []
    if any(each.evidence is not None and each.evidence.is_enough for each in findings.eligibility.dimensions):
        return []
    best = winner_everywhere(findings.all_users.trials, findings.all_users.successes)
    if best is None:
        return []
    arm, e_value, needed = best
    if e_value < needed:
        return []
    winner = next(each for each in findings.experiment.variants if each.number == findings.arms[arm])
    return [
        Proposal(
            RecommendationKind.FINISH,
            f"finish the experiment: {winner.variant_id} is the best variant for all users",
            basis.trials,
            basis.days,
            winner=winner.number,
            e_value=e_value,
            needed=needed,
        )
    ]


def _basis(findings: Findings) -> _Basis:
    if findings.all_users is None:
        return _Basis(0, 0)
    trials = findings.all_users.trials
    return _Basis(int(trials.sum()), int((trials.sum((1, 2)) > 0).sum()))


def _expected_value(each: DimensionReport | ConditionalEvidence) -> float:
    return each.expected.value if each.expected else 0.0
