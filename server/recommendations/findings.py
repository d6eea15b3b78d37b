"""Findings: everything that recommendations rest on, of one experiment, as of one moment.

Findings are read in one snapshot of the database. What to recommend is for `server.recommendations.proposals` to say.
"""

import asyncio
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta

from allocator.clusters import MIN_ASSIGNMENTS, Drift
from allocator.context import DIMENSIONS
from allocator.errors import ClusterModelUnreadableError
from allocator.experiment import Experiment, ExperimentState, SegmentationMode
from allocator.segmentation import Condition, DimensionCounts, Eligibility, check_eligibility
from allocator.segmentation.evidence import SegmentationEvidence, segmentation_evidence
from allocator.time_zones import time_zone_or_utc
from server.recommendations.conditional_evidence import NO_CHANGES, DimensionChanges, find_dimension_changes
from server.recommendations.measured_lift import MeasuredLift, measure_lift
from storage.encryption import Secrets
from storage.postgres.counts import counts, dimensions, traffic
from storage.postgres.counts.drift import recent_drift
from storage.postgres.pool import Connection
from storage.postgres.segmentation import segmentations, serving_state
from storage.postgres.segmentation.segmentations import PendingSegmentation
from storage.postgres.segmentation.serving_state import ServingState

_WEEK = timedelta(days=7)


@dataclass(frozen=True)
class Findings:
    """What is known of one experiment.

    pending_segmentation: the segmentation that is being prepared, if any.
    arms: the numbers of the variants that may be drawn, in the order of the arms.
    peak_visitors: visitors on the busiest of the last seven full days.
    all_users: counts of all users by day and arm; None before there is a full day.
    segment_evidence, measured_lift: of the segmentation that serves; None where the experiment is not segmented.
    drift: of the cluster model that serves, from 1,000 users or more of the last seven days; None otherwise.
    dimension_changes: what one more dimension, or one fewer, would do.
    """

    now: datetime
    experiment: Experiment
    pending_segmentation: PendingSegmentation | None
    state: ServingState
    arms: tuple[int, ...]
    peak_visitors: int
    eligibility: Eligibility
    all_users: DimensionCounts | None
    segment_evidence: SegmentationEvidence | None = None
    measured_lift: MeasuredLift | None = None
    drift: Drift | None = None
    dimension_changes: DimensionChanges = NO_CHANGES


async def gather_findings(connection: Connection, secrets: Secrets, experiment: Experiment, now: datetime) -> Findings:
    """Read the findings of an experiment. The log is read only where the experiment is segmented."""
    state = await serving_state.state(connection, experiment.number)
    pending = await segmentations.pending(connection, experiment.number)
    arms = _drawable_variants(experiment)
    today = local_day(experiment, now)
    visitors_by_day = await traffic.visitors(connection, experiment.number, today - _WEEK, today)
    peak_visitors = max(visitors_by_day.values(), default=0)
    first_day = max(state.evidence_from or date.min, today - timedelta(dimensions.KEPT_DAYS))
    mature_before = local_day(experiment, now - timedelta(seconds=experiment.maturity_seconds))
    counted = await dimensions.read(connection, experiment, arms, first_day, mature_before)
    eligibility = await asyncio.to_thread(
        check_eligibility,
        (_state_condition(experiment, pending), _rest_condition(state, today)),
        peak_visitors,
        experiment.segmentation.auto_activation_threshold,
        counted,
        experiment.segmentation.min_samples_per_segment,
    )
    all_users = next((each for each in counted if not each.dimension), None)
    findings = Findings(now, experiment, pending, state, arms, peak_visitors, eligibility, all_users)
    if experiment.segmentation.mode is SegmentationMode.DISABLED or pending is not None:
        return findings
    return replace(
        findings,
        segment_evidence=await read_segment_evidence(connection, experiment, now),
        measured_lift=await measure_lift(connection, experiment, state, now),
        drift=await _read_drift(connection, secrets, experiment, now),
        dimension_changes=await find_dimension_changes(
            connection, experiment, state, eligibility, arms, first_day, now
        ),
    )


async def read_segment_evidence(connection: Connection, experiment: Experiment, now: datetime) -> SegmentationEvidence:
    """Return the evidence that the segments that serve want different variants, by their mature days."""
    rows = await counts.mature_days(connection, experiment, now)
    counted = DimensionCounts.of_segments(rows, _drawable_variants(experiment))
    return await asyncio.to_thread(segmentation_evidence, counted.trials, counted.successes)


def local_day(experiment: Experiment, moment: datetime) -> date:
    """Return the day of a moment in the experiment's time zone."""
    return moment.astimezone(time_zone_or_utc(experiment.time_zone)).date()


def segment_by_name(dimension: str) -> str:
    """Return the name that `segment_by` has for a dimension of contexts: "attributes." before a custom attribute."""
    return dimension if dimension in DIMENSIONS else f"attributes.{dimension}"


def describe_segmentation(experiment: Experiment) -> str:
    """Return in words how an experiment is segmented."""
    match experiment.segmentation.mode:
        case SegmentationMode.DISABLED:
            return "not segmented"
        case SegmentationMode.AUTO:
            return "segmented by clusters"
        case SegmentationMode.MANUAL:
            return f"segmented by {', '.join(experiment.segmentation.segment_by)}"


async def _read_drift(connection: Connection, secrets: Secrets, experiment: Experiment, now: datetime) -> Drift | None:
    version = experiment.segmentation.model_version
    if version is None:
        return None
    try:
        recent = await recent_drift(connection, secrets, experiment.number, version, now)
    except ClusterModelUnreadableError:
        return None  # GetClusteringStatus reports the unreadable model
    if recent is None:
        return None
    drift, users = recent
    return drift if users >= MIN_ASSIGNMENTS else None


def _drawable_variants(experiment: Experiment) -> tuple[int, ...]:
    return tuple(variant.number for variant in experiment.variants if not variant.retired)


def _state_condition(experiment: Experiment, pending: PendingSegmentation | None) -> Condition:
    if experiment.state is not ExperimentState.RUNNING:
        return Condition("state", False, f"the experiment is {experiment.state.value}; it must be RUNNING")
    if pending is not None:
        return Condition("state", False, "another segmentation is being prepared; check again when it serves")
    if experiment.segmentation.mode is not SegmentationMode.DISABLED:
        return Condition("state", False, f"the experiment is {describe_segmentation(experiment)} already")
    return Condition("state", True, "the experiment is running, and not segmented")


def _rest_condition(state: ServingState, today: date) -> Condition:
    first_day = state.evidence_from
    if first_day is None or first_day <= today:
        return Condition("rest", True, "no segmentation was turned off in the last two weeks")
    return Condition(
        "rest", False, f"segmentation was turned off less than two weeks ago; users count as evidence from {first_day}"
    )
