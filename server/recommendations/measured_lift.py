"""Measured lift: what the segmentation that serves has brought, from the log of its own users.

It reads the log and changes nothing; whether to turn segmentation off is for `server.recommendations.proposals` to say.
"""

import asyncio
from dataclasses import dataclass
from datetime import datetime, timedelta

from allocator.estimates import Estimate, segmentation_lift, segmentation_lift_by_period
from allocator.experiment import Experiment
from allocator.segmentation import harm_e_value, vanished_statistic
from storage.postgres.events.summed_log import SummedLog, summed_log
from storage.postgres.pool import Connection
from storage.postgres.segmentation.serving_state import ServingState

_DAY = timedelta(days=1)


@dataclass(frozen=True)
class SegmentLift:
    """The lift in one segment. `segment` is its number, `rate` the share of its users who converted."""

    segment: int
    trials: int
    rate: float
    lift: Estimate | None


@dataclass(frozen=True)
class DayLift:
    """The lift among the users of 24 hours."""

    begins_at: datetime
    trials: int
    lift: Estimate | None


@dataclass(frozen=True)
class MeasuredLift:
    """The lift since the segmentation serves, compared with serving everyone alike.

    Lifts are in conversion rate (0.01 is one percentage point), and None where the log does not tell.

    trials: mature users.
    lift: of all of them. segments, days: of each segment, and of each full day whose users are all mature.
    expected: the lift that was expected when the segmentation was recommended; None where people chose it.
    vanished: `vanished_statistic` of the days; None where no lift above 0 was expected.
    harm: `harm_e_value` of the lift.
    """

    trials: int
    lift: Estimate | None
    segments: tuple[SegmentLift, ...]
    days: tuple[DayLift, ...]
    expected: Estimate | None
    vanished: float | None
    harm: float


async def measure_lift(
    connection: Connection, experiment: Experiment, state: ServingState, now: datetime
) -> MeasuredLift:
    """Measure the lift of the segmentation that serves."""
    since = state.serves_since or experiment.started_at

    async def read_log(by_day: bool) -> SummedLog | None:
        return await summed_log(
            connection,
            experiment.number,
            experiment.segmentation_version,
            experiment.control_number,
            now,
            since=since,
            by_day=by_day,
        )

    fine, daily = await read_log(by_day=False), await read_log(by_day=True)
    return await asyncio.to_thread(_measure, experiment, state.expected, fine, daily, now)


def _measure(
    experiment: Experiment, expected: Estimate | None, fine: SummedLog | None, daily: SummedLog | None, now: datetime
) -> MeasuredLift:
    if fine is None:
        return MeasuredLift(0, None, (), (), expected, None, 1.0)
    days = () if daily is None else _full_days(daily, now - timedelta(seconds=experiment.maturity_seconds))
    vanished = None
    if expected is not None and expected.value > 0:
        vanished = vanished_statistic([day.lift for day in days if day.lift is not None], expected.value)
    lift = segmentation_lift(fine.log)
    return MeasuredLift(
        trials=int(fine.log.trials.sum()),
        lift=lift,
        segments=tuple(_segment_lift(fine, index) for index in range(len(fine.segments))),
        days=days,
        expected=expected,
        vanished=vanished,
        harm=1.0 if lift is None else harm_e_value(lift),
    )


def _segment_lift(summed: SummedLog, index: int) -> SegmentLift:
    trials = float(summed.log.trials[:, index].sum())
    rate = float(summed.log.successes[:, index].sum()) / trials
    return SegmentLift(summed.segments[index], int(trials), rate, segmentation_lift(summed.log, index))


def _full_days(summed: SummedLog, mature_before: datetime) -> tuple[DayLift, ...]:
    """Return the days whose users were all assigned before a moment."""
    lifts = segmentation_lift_by_period(summed.log)
    users = summed.log.users.sum(1)
    return tuple(
        DayLift(begins_at, int(count), lift)
        for begins_at, count, lift in zip(summed.periods, users, lifts, strict=True)
        if begins_at + _DAY <= mature_before
    )
