"""What alerts are raised by. Each check looks at all running experiments, and says in words what is wrong."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import cast

import structlog

from allocator.estimates import sample_ratio_p_value
from allocator.estimates.binomial import under_half_p_value
from allocator.experiment import Experiment
from allocator.segments import display_name
from storage.postgres.counts import counts
from storage.postgres.events.summed_log import summed_log
from storage.postgres.experiments import experiments
from storage.postgres.operations import alert_queries
from storage.postgres.operations.alert_queries import Silence, WeakSegment
from storage.postgres.operations.alerts import AlertKind, Place
from storage.postgres.pool import Connection
from storage.redis import streams
from storage.redis.client import Client

log = structlog.get_logger()
_CHANCE = 0.001
_LATELY = timedelta(days=7)
# A model is trained anew when it is seven days old: that takes its time.
_OLD = timedelta(days=7, hours=1)
_MOST_LAG = 60.0  # seconds
_SURGE = 5.0
_LEAST_BOTS = 1_000
_EXPECTED_CONVERSIONS = 20
_DAY = timedelta(days=1)
_LOGS_AT_A_TIME = 5


@dataclass(frozen=True)
class Look:
    """What a check looks at. `still_open` is since when an alert of its kind is not resolved, by place."""

    connection: Connection
    redis: Client
    shards: int
    still_open: Mapping[Place, datetime]
    now: datetime


@dataclass(frozen=True)
class Problems:
    """In words, by place; of `undecided` experiments nothing is said, so that their alerts stay."""

    found: Mapping[Place, str]
    undecided: set[int] = field(default_factory=set)


async def experiment_of(connection: Connection, number: int) -> Experiment:
    """An experiment by its number."""
    (experiment_id,) = await counts.experiment_ids(connection, {number})
    return cast("Experiment", await experiments.get(connection, experiment_id))


async def _weak_segments(look: Look) -> Problems:
    """Raised where that is no chance, resolved where the rate is not under half any more."""
    problems: dict[Place, str] = {}
    for weak in await alert_queries.weak_segments(look.connection, look.now):
        place = weak.experiment_number, weak.segment_key
        counted = weak.trials, weak.successes, weak.all_trials, weak.all_successes
        if place in look.still_open or under_half_p_value(*counted, weak.segments) < _CHANCE:
            experiment = await experiment_of(look.connection, weak.experiment_number)
            problems[place] = _weakness(weak, display_name(weak.segment_key, experiment.cluster_names))
    return Problems(problems)


def _weakness(weak: WeakSegment, name: str) -> str:
    rate, everyone = weak.successes / weak.trials, weak.all_successes / weak.all_trials
    return (
        f"{name} converts at {rate:.2%}, less than half of everyone's {everyone:.2%} "
        f"({weak.successes:,} of {weak.trials:,} users)"
    )


async def _old_models(look: Look) -> Problems:
    problems: dict[Place, str] = {}
    for old in await alert_queries.old_models(look.connection, look.now - _OLD):
        problems[old.experiment_number, ""] = (
            f"cluster model {old.version} is of {old.trained_at:%Y-%m-%d}, and none has been trained for seven days"
        )
    return Problems(problems)


async def _sample_ratios(look: Look) -> Problems:
    """The log of a few experiments each time, and of none more than once a day."""
    due = await alert_queries.take_sample_ratio_checks(
        look.connection, checked_before=look.now - _DAY, limit=_LOGS_AT_A_TIME, now=look.now
    )
    problems: dict[Place, str] = {}
    undecided = await alert_queries.running(look.connection) - due
    for number in due:
        experiment = await experiment_of(look.connection, number)
        try:
            p_value = await _sample_ratio(look, experiment)
        except Exception as error:  # of one log, which must not keep the others from being looked at
            log.warning("sample ratio not checked", experiment=experiment.experiment_id, error=repr(error))
            undecided.add(number)
            continue
        if p_value is not None and p_value < _CHANCE:
            problems[number, ""] = (
                "variants were not shown in the shares that they were drawn with in the last seven days "
                f"(p = {p_value:.1g}), so results may be wrong"
            )
    return Problems(problems, undecided)


async def _sample_ratio(look: Look, experiment: Experiment) -> float | None:
    log_of_days = await summed_log(
        look.connection,
        experiment.number,
        experiment.segmentation_version,
        experiment.control.number,
        look.now,
        since=look.now - _LATELY,
    )
    return None if log_of_days is None else await asyncio.to_thread(sample_ratio_p_value, log_of_days.log)


async def _drain_lag(look: Look) -> Problems:
    age = max([(await streams.backlog(look.redis, shard)).age for shard in range(look.shards)])
    if age <= _MOST_LAG:
        return Problems({})
    return Problems({(None, ""): f"events wait for {age:,.0f} s to be stored, and nothing is learned meanwhile"})


async def _bot_surges(look: Look) -> Problems:
    """Raised where bots are more than the visitors too, and resolved by the next day, not by visitors who catch up."""
    problems: dict[Place, str] = {}
    for bots in await alert_queries.bots(look.connection, _LEAST_BOTS, look.now):
        place = bots.experiment_number, ""
        if bots.requests > _SURGE * bots.usual and (bots.requests > bots.visitors or place in look.still_open):
            problems[place] = (
                f"bots have asked {bots.requests:,} times today, {bots.usual:,.0f} times on a usual day, and there "
                f"are {bots.visitors:,} visitors"
            )
    return Problems(problems)


async def _silences(look: Look) -> Problems:
    """Silent for so long that conversions were to be expected, by the time and by the users who came meanwhile."""
    problems: dict[Place, str] = {}
    for silence in await alert_queries.silences(look.connection, _LATELY):
        place = silence.experiment_number, ""
        raised_at = look.still_open.get(place)
        is_the_same = raised_at is not None and silence.since <= raised_at
        if is_the_same or await _is_too_long(look, silence):
            problems[place] = (
                f"nobody has converted since {silence.since:%Y-%m-%d %H:%M} UTC, when {_EXPECTED_CONVERSIONS} or more "
                "of the users who came were to be expected to"
            )
    return Problems(problems)


async def _is_too_long(look: Look, silence: Silence) -> bool:
    if silence.successes < _EXPECTED_CONVERSIONS:  # the rate is not known well
        return False
    if silence.successes * (look.now - silence.since) < _EXPECTED_CONVERSIONS * silence.span:
        return False
    needed = _EXPECTED_CONVERSIONS * silence.trials / silence.successes - silence.trials_after
    if needed <= 0 or needed > silence.trials_of_last_day:
        return needed <= 0
    return await alert_queries.users_on_day_after(look.connection, silence) >= needed


async def _failed_activations(look: Look) -> Problems:
    """Raised by the checks of eligibility, and over where the experiment does not run."""
    running = await alert_queries.running(look.connection)
    return Problems({place: "" for place in look.still_open if place[0] in running})


CHECKS: Mapping[AlertKind, Callable[[Look], Awaitable[Problems]]] = {
    AlertKind.SEGMENT_UNDERPERFORMS: _weak_segments,
    AlertKind.CLUSTER_MODEL_OLD: _old_models,
    AlertKind.DRAIN_LAG: _drain_lag,
    AlertKind.BOT_SURGE: _bot_surges,
    AlertKind.CONVERSIONS_STOPPED: _silences,
    AlertKind.AUTO_ACTIVATION_FAILED: _failed_activations,
    AlertKind.SAMPLE_RATIO_MISMATCH: _sample_ratios,  # last, since it takes longest
}
