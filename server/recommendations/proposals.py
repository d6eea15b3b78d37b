"""From findings to what is recommended."""

from dataclasses import replace
from datetime import timedelta

from allocator.estimates import Estimate
from allocator.experiment import ExperimentState, SegmentationMode
from allocator.segmentation import DECISIVE, HARMFUL, DimensionReport, Proposal, RecommendationKind, winner_everywhere
from allocator.segmentation.evidence import ERROR
from server.recommendations.conditional_evidence import DimensionWithin
from server.recommendations.findings import Findings, public_name

_CLUSTERS_FROM = 10_000  # visitors a day
_LEAST_DIMENSIONS = 2  # to find clusters in
_WEEK = 7  # days: weekdays differ
_CLUSTERS_TRIED = timedelta(days=30)
_FAR_SHARE, _SHARE_SHIFT = 0.05, 0.2  # of users whom a cluster model does not fit any more


def proposals(found: Findings) -> list[Proposal]:
    """The best first. Nothing while another segmentation is being prepared, or where the experiment does not run."""
    if found.experiment.state is not ExperimentState.RUNNING or found.pending is not None:
        return []
    if found.experiment.segmentation.mode is SegmentationMode.DISABLED:
        return [*_segment_by(found), *_use_clusters(found)] or _finish(found)
    return [*_turn_off(found), *_add(found), *_drop(found), *_train(found)]


def _segment_by(found: Findings) -> list[Proposal]:
    if not found.eligibility.is_eligible:
        return []
    good = [each for each in found.eligibility.dimensions if not each.problem]
    return [_by_dimension(each) for each in sorted(good, key=_expected, reverse=True)]


def _by_dimension(report: DimensionReport) -> Proposal:
    evidence = report.evidence
    name = public_name(report.dimension)
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


def _use_clusters(found: Findings) -> list[Proposal]:
    """Where there is traffic for it, and something to find clusters in. Clusters that do not differ cost little."""
    met = {condition.name for condition in found.eligibility.conditions if condition.holds}
    looked_at = [each for each in found.eligibility.dimensions if each.evidence is not None]
    wanted = {"state", "rest", "traffic", "days"} <= met and found.visitors >= _CLUSTERS_FROM
    if not wanted or len(looked_at) < _LEAST_DIMENSIONS or _basis(found)[1] < _WEEK:
        return []
    return [
        Proposal(
            RecommendationKind.USE_CLUSTERS,
            f"find audiences by clusters: {found.visitors:,} visitors a day are enough to tell them apart",
            *_basis(found),
        )
    ]


def _turn_off(found: Findings) -> list[Proposal]:
    measured = found.measured
    if measured is None:
        return []
    if measured.vanished is not None and measured.vanished >= DECISIVE:
        why = "the lift that was expected has vanished"
    elif measured.harm >= HARMFUL:
        why = "users convert less often than they would unsegmented"
    elif _clusters_are_no_use(found):
        why = "in 30 days nothing says that clusters want different variants"
    else:
        return []
    return [
        Proposal(
            RecommendationKind.TURN_OFF,
            f"turn segmentation off, since {why}",
            measured.trials,
            len(measured.days),
            expected=None if measured.lift is None else Estimate(-measured.lift.value, measured.lift.standard_error),
        )
    ]


def _clusters_are_no_use(found: Findings) -> bool:
    since, evidence, measured = found.state.serves_since, found.of_segments, found.measured
    return (
        found.experiment.segmentation.mode is SegmentationMode.AUTO
        and since is not None
        and found.now - since >= _CLUSTERS_TRIED
        and found.state.recommendation_id is not None
        and (measured is None or measured.expected is None)
        and (evidence is None or not evidence.is_enough)
    )


def _add(found: Findings) -> list[Proposal]:
    serving = found.experiment.segmentation.segment_by
    good = [
        each
        for each in found.to_add
        if each.e_value >= each.needed
        and each.every_arm_is_beaten
        and each.expected is not None
        and each.expected.lower > 0
    ]
    return [
        _within(RecommendationKind.ADD_DIMENSION, f"segment by {name} too", each, (*serving, name))
        for each in sorted(good, key=_expected, reverse=True)
        for name in (public_name(each.dimension),)
    ]


def _drop(found: Findings) -> list[Proposal]:
    """The dimension that a month of data speaks against most, if any: 20 times likelier without it."""
    useless = [each for each in found.to_drop if each.e_value <= ERROR]
    if not useless:
        return []
    least = min(useless, key=lambda each: each.e_value)
    name = public_name(least.dimension)
    left = tuple(each for each in found.experiment.segmentation.segment_by if each != name)
    summary = f"segment by {name} no more: beside {', '.join(left)} it makes no difference"
    return [_within(RecommendationKind.DROP_DIMENSION, summary, _reversed(least), left)]


def _reversed(each: DimensionWithin) -> DimensionWithin:
    """What speaks for the dimension making no difference."""
    return replace(each, e_value=1 / each.e_value, needed=1 / ERROR, expected=None)


def _within(kind: RecommendationKind, summary: str, each: DimensionWithin, segment_by: tuple[str, ...]) -> Proposal:
    return Proposal(
        kind,
        summary,
        each.trials,
        each.days,
        segment_by=segment_by,
        expected=each.expected,
        e_value=each.e_value,
        needed=each.needed,
    )


def _train(found: Findings) -> list[Proposal]:
    drift = found.drift
    if drift is None or (drift.far_share < _FAR_SHARE and drift.share_shift < _SHARE_SHIFT):
        return []
    summary = (
        f"train the clusters again: {drift.far_share:.0%} of the last week's users are far from all, "
        f"and the clusters' sizes have shifted by {drift.share_shift:.0%}"
    )
    return [Proposal(RecommendationKind.TRAIN_CLUSTERS, summary, *_basis(found))]


def _finish(found: Findings) -> list[Proposal]:
    """One variant is the best, and nothing says that some users want another.

    Told where all users were drawn for alike, so not of segmented users.
    """
    everyone = found.everyone
    if everyone is None or _basis(found)[1] < _WEEK:
        return []
    if any(each.evidence is not None and each.evidence.is_enough for each in found.eligibility.dimensions):
        return []
    best = winner_everywhere(everyone.trials, everyone.successes)
    if best is None or best[1] < best[2]:
        return []
    arm, e_value, needed = best
    variant = next(each for each in found.experiment.variants if each.number == found.arms[arm])
    return [
        Proposal(
            RecommendationKind.FINISH,
            f"finish: {variant.variant_id} is the best for everyone",
            *_basis(found),
            winner=variant.number,
            e_value=e_value,
            needed=needed,
        )
    ]


def _basis(found: Findings) -> tuple[int, int]:
    """Users and days that were looked at."""
    if found.everyone is None:
        return 0, 0
    trials = found.everyone.trials
    return int(trials.sum()), int((trials.sum((1, 2)) > 0).sum())


def _expected(each: DimensionReport | DimensionWithin) -> float:
    return each.expected.value if each.expected else 0.0
