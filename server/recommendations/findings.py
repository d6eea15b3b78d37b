"""Everything that recommendations rest on, of one experiment, as of one moment."""

import asyncio
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

from allocator.clusters import MIN_ASSIGNMENTS, Drift
from allocator.context import DIMENSIONS
from allocator.errors import ClusterModelUnreadableError
from allocator.experiment import Experiment, ExperimentState, SegmentationMode
from allocator.segmentation import Condition, DimensionCounts, Eligibility, check_eligibility
from allocator.segmentation.evidence import SegmentationEvidence, segmentation_evidence
from server.recommendations.conditional_evidence import DimensionWithin, dimensions_within
from server.recommendations.measured_lift import Measured, measure
from storage.encryption import Secrets
from storage.postgres.counts import counts, dimensions, traffic
from storage.postgres.counts.drift import recent_drift
from storage.postgres.pool import Connection
from storage.postgres.segmentation import segmentations, serving_state
from storage.postgres.segmentation.segmentations import PendingSegmentation
from storage.postgres.segmentation.serving_state import AdaptationState

_WEEK = timedelta(days=7)


@dataclass(frozen=True)
class Findings:
    """What is known of an experiment.

    visitors: of the busiest of the last seven full days. everyone: counts of all users by day and arm, None before
    there are full days. arms: the variant numbers of the arms. of_segments, measured: where it is segmented; drift:
    where by clusters, of 1,000 users or more. to_add, to_drop: dimensions that might be, and what they bring beside the
    others.
    """

    now: datetime
    experiment: Experiment
    pending: PendingSegmentation | None
    state: AdaptationState
    arms: tuple[int, ...]
    visitors: int
    eligibility: Eligibility
    everyone: DimensionCounts | None
    of_segments: SegmentationEvidence | None = None
    measured: Measured | None = None
    drift: Drift | None = None
    to_add: tuple[DimensionWithin, ...] = ()
    to_drop: tuple[DimensionWithin, ...] = ()


async def find(connection: Connection, secrets: Secrets, experiment: Experiment, now: datetime) -> Findings:
    """Read it. Where the experiment is not segmented, from aggregates alone."""
    state = await serving_state.state(connection, experiment.number)
    pending = await segmentations.pending(connection, experiment.number)
    arms = _arms(experiment)
    today = local_day(experiment, now)
    visitors = max((await traffic.visitors(connection, experiment.number, today - _WEEK, today)).values(), default=0)
    first = max(state.evidence_from or date.min, today - timedelta(dimensions.KEPT_DAYS))
    mature = local_day(experiment, now - timedelta(seconds=experiment.maturity_seconds))
    found = await dimensions.read(connection, experiment, arms, first, mature)
    eligibility = await asyncio.to_thread(
        check_eligibility,
        (_state(experiment, pending), _rest(state, today)),
        visitors,
        experiment.segmentation.auto_activation_threshold,
        found,
        experiment.segmentation.min_samples_per_segment,
    )
    everyone = next((each for each in found if not each.dimension), None)
    base = Findings(now, experiment, pending, state, arms, visitors, eligibility, everyone)
    if experiment.segmentation.mode is SegmentationMode.DISABLED or pending is not None:
        return base
    return await _of_segmented(connection, secrets, base, first, now)


async def _of_segmented(
    connection: Connection, secrets: Secrets, base: Findings, first: date, now: datetime
) -> Findings:
    experiment = base.experiment
    drift = None
    model = experiment.segmentation.model_version
    if model is not None:
        try:
            recent = await recent_drift(connection, secrets, experiment.number, model, now)
            drift = recent[0] if recent is not None and recent[1] >= MIN_ASSIGNMENTS else None
        except ClusterModelUnreadableError:
            drift = None  # GetClusteringStatus says so
    to_add, to_drop = await dimensions_within(
        connection, experiment, base.state, base.eligibility, base.arms, first, now
    )
    return replace(
        base,
        of_segments=await evidence_of_segments(connection, experiment, now),
        measured=await measure(connection, experiment, base.state, now),
        drift=drift,
        to_add=to_add,
        to_drop=to_drop,
    )


async def evidence_of_segments(connection: Connection, experiment: Experiment, now: datetime) -> SegmentationEvidence:
    """By the mature days of the segmentation that serves."""
    rows = await counts.mature_days(connection, experiment, now)
    counted = DimensionCounts.of_segments(rows, _arms(experiment))
    return await asyncio.to_thread(segmentation_evidence, counted.trials, counted.successes)


def _arms(experiment: Experiment) -> tuple[int, ...]:
    """The numbers of the variants that may be drawn."""
    return tuple(variant.number for variant in experiment.variants if not variant.retired)


def local_day(experiment: Experiment, moment: datetime) -> date:
    """The day in the experiment's time zone."""
    return moment.astimezone(ZoneInfo(experiment.time_zone)).date()


def public_name(dimension: str) -> str:
    """As segment_by has it: custom attributes with their prefix."""
    return dimension if dimension in DIMENSIONS else f"attributes.{dimension}"


def described(experiment: Experiment) -> str:
    """What serves, in words."""
    match experiment.segmentation.mode:
        case SegmentationMode.DISABLED:
            return "not segmented"
        case SegmentationMode.AUTO:
            return "segmented by clusters"
        case SegmentationMode.MANUAL:
            return f"segmented by {', '.join(experiment.segmentation.segment_by)}"


def _state(experiment: Experiment, pending: PendingSegmentation | None) -> Condition:
    if experiment.state is not ExperimentState.RUNNING:
        return Condition("state", False, f"the experiment is {experiment.state.value}; it must be RUNNING")
    if pending is not None:
        return Condition("state", False, "another segmentation is being prepared")
    if experiment.segmentation.mode is not SegmentationMode.DISABLED:
        return Condition("state", False, f"it is {described(experiment)} already")
    return Condition("state", True, "running, and not segmented")


def _rest(state: AdaptationState, today: date) -> Condition:
    begins = state.evidence_from
    if begins is None or begins <= today:
        return Condition("rest", True, "no segmentation was turned off of late")
    return Condition("rest", False, f"it was segmented until two weeks before {begins}, and rests until then")
