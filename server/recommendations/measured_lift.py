"""What the segmentation that serves has brought, from the log of users who came since."""

import asyncio
from dataclasses import dataclass
from datetime import datetime, timedelta

from allocator.estimates import Estimate, segmentation_lift, segmentation_lift_by_period
from allocator.experiment import Experiment
from allocator.segmentation import harm_e_value, vanished_statistic
from storage.postgres.events.summed_log import SummedLog, summed_log
from storage.postgres.pool import Connection
from storage.postgres.segmentation.serving_state import AdaptationState

_DAY = timedelta(days=1)


@dataclass(frozen=True)
class MeasuredSegment:
    """One segment, by its number."""

    segment: int
    trials: int
    rate: float
    lift: Estimate | None


@dataclass(frozen=True)
class MeasuredDay:
    """Users of 24 hours."""

    begins_at: datetime
    trials: int
    lift: Estimate | None


@dataclass(frozen=True)
class Measured:
    """The lift over all users since then, of each segment, and of each full day.

    expected: of the segmentation, when it was recommended. vanished: see `vanished_statistic`; None where nothing was
    expected. harm: see `harm_e_value`.
    """

    trials: int
    lift: Estimate | None
    segments: tuple[MeasuredSegment, ...]
    days: tuple[MeasuredDay, ...]
    expected: Estimate | None
    vanished: float | None
    harm: float


async def measure(connection: Connection, experiment: Experiment, state: AdaptationState, now: datetime) -> Measured:
    """Read the log of the segmentation that serves."""
    place = experiment.number, experiment.segmentation_version, experiment.control_number, now
    since = state.serves_since or experiment.started_at
    fine = await summed_log(connection, *place, since=since)
    daily = await summed_log(connection, *place, since=since, by_day=True)
    return await asyncio.to_thread(_judged, experiment, state.expected, fine, daily, now)


def _judged(
    experiment: Experiment, expected: Estimate | None, fine: SummedLog | None, daily: SummedLog | None, now: datetime
) -> Measured:
    if fine is None:
        return Measured(0, None, (), (), expected, None, 1.0)
    days = () if daily is None else _days(daily, now - timedelta(seconds=experiment.maturity_seconds))
    vanished = None
    if expected is not None and expected.value > 0:
        vanished = vanished_statistic([day.lift for day in days if day.lift is not None], expected.value)
    lift = segmentation_lift(fine.log)
    return Measured(
        trials=int(fine.log.trials.sum()),
        lift=lift,
        segments=tuple(_segment(fine, place) for place in range(len(fine.segments))),
        days=days,
        expected=expected,
        vanished=vanished,
        harm=1.0 if lift is None else harm_e_value(lift),
    )


def _segment(summed: SummedLog, place: int) -> MeasuredSegment:
    trials = float(summed.log.trials[:, place].sum())
    rate = float(summed.log.successes[:, place].sum()) / trials
    return MeasuredSegment(summed.segments[place], int(trials), rate, segmentation_lift(summed.log, place))


def _days(summed: SummedLog, mature: datetime) -> tuple[MeasuredDay, ...]:
    lifts = segmentation_lift_by_period(summed.log)
    users = summed.log.users.sum(1)
    return tuple(
        MeasuredDay(begin, int(count), lift)
        for begin, count, lift in zip(summed.periods, users, lifts, strict=True)
        if begin + _DAY <= mature
    )
