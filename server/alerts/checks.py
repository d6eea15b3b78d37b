"""The checks that raise alerts. Each one checks all running experiments, and says in words what is wrong.

A check changes no alert; `server.alerts.watch` raises and resolves them.
"""

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
from storage.postgres.operations.alerts import AlertKind, AlertTarget
from storage.postgres.pool import Connection
from storage.redis import streams
from storage.redis.client import Client

log = structlog.get_logger()
_CHANCE = 0.001  # a smaller probability is no chance
_RECENT = timedelta(days=7)
_OLD_MODEL = timedelta(days=7, hours=1)  # a model is trained anew after seven days; the hour is for its training
_MOST_DRAIN_SECONDS = 60.0
_BOT_SURGE = 5.0  # times the requests of a usual day
_LEAST_BOT_REQUESTS = 1_000  # a day
_EXPECTED_CONVERSIONS = 20
_DAY = timedelta(days=1)
_SAMPLE_RATIOS_AT_A_TIME = 5  # each reads the log of an experiment


@dataclass(frozen=True)
class CheckInput:
    """What every check gets. `open_since` says since when each alert of its kind is open."""

    connection: Connection
    redis: Client
    shards: int
    open_since: Mapping[AlertTarget, datetime]
    now: datetime


@dataclass(frozen=True)
class Problems:
    """What a check found.

    found: each problem in words, without a full stop. unchecked: numbers of experiments that were not checked this
    time, so that their alerts stay as they are.
    """

    found: Mapping[AlertTarget, str]
    unchecked: set[int] = field(default_factory=set)


async def load_experiment(connection: Connection, number: int) -> Experiment:
    """Return the experiment with a number. It must exist."""
    (experiment_id,) = await counts.experiment_ids(connection, {number})
    return cast("Experiment", await experiments.get(connection, experiment_id))


async def _find_weak_segments(check: CheckInput) -> Problems:
    """Find segments whose rate is less than half of the experiment's.

    An alert is raised where that is unlikely to be chance, and stays until the rate is half or more.
    """
    problems: dict[AlertTarget, str] = {}
    for weak in await alert_queries.weak_segments(check.connection, check.now):
        target = weak.experiment_number, weak.segment_key
        is_chance = (
            under_half_p_value(weak.trials, weak.successes, weak.all_trials, weak.all_successes, weak.segments)
            >= _CHANCE
        )
        if target in check.open_since or not is_chance:
            experiment = await load_experiment(check.connection, weak.experiment_number)
            problems[target] = _describe_weak_segment(weak, display_name(weak.segment_key, experiment.cluster_names))
    return Problems(problems)


def _describe_weak_segment(weak: WeakSegment, name: str) -> str:
    rate, overall_rate = weak.successes / weak.trials, weak.all_successes / weak.all_trials
    return (
        f"{100 * rate:.2f} % of users in {name} convert ({weak.successes:,} of {weak.trials:,}), less than half of the "
        f"{100 * overall_rate:.2f} % of all users"
    )


async def _find_old_models(check: CheckInput) -> Problems:
    problems: dict[AlertTarget, str] = {}
    for old in await alert_queries.old_models(check.connection, check.now - _OLD_MODEL):
        problems[old.experiment_number, ""] = (
            f"cluster model {old.version} was trained on {old.trained_at:%Y-%m-%d}, and no training has succeeded in "
            "the last seven days"
        )
    return Problems(problems)


async def _find_sample_ratio_mismatches(check: CheckInput) -> Problems:
    """Check the logs of a few experiments each time, since that takes long, and of none more than once a day."""
    due = await alert_queries.take_sample_ratio_checks(
        check.connection, checked_before=check.now - _DAY, limit=_SAMPLE_RATIOS_AT_A_TIME, now=check.now
    )
    problems: dict[AlertTarget, str] = {}
    unchecked = await alert_queries.running(check.connection) - due
    for number in due:
        experiment = await load_experiment(check.connection, number)
        try:
            p_value = await _sample_ratio_p_value(check, experiment)
        except Exception as error:  # a log that cannot be read must not keep the others from being checked
            log.warning(
                "sample ratio not checked, trying again in a day",
                experiment=experiment.experiment_id,
                error=repr(error),
            )
            unchecked.add(number)
            continue
        if p_value is not None and p_value < _CHANCE:
            problems[number, ""] = (
                "in the last seven days users did not get the variants in the shares that they were drawn with "
                f"(p = {p_value:.1g}), so the results may be wrong"
            )
    return Problems(problems, unchecked)


async def _sample_ratio_p_value(check: CheckInput, experiment: Experiment) -> float | None:
    recent_log = await summed_log(
        check.connection,
        experiment.number,
        experiment.segmentation_version,
        experiment.control.number,
        check.now,
        since=check.now - _RECENT,
    )
    return None if recent_log is None else await asyncio.to_thread(sample_ratio_p_value, recent_log.log)


async def _find_drain_lag(check: CheckInput) -> Problems:
    age = max([(await streams.backlog(check.redis, shard)).age for shard in range(check.shards)])
    if age <= _MOST_DRAIN_SECONDS:
        return Problems({})
    problem = f"the oldest event has waited {age:,.0f} seconds to be stored, and Samplit learns nothing new meanwhile"
    return Problems({(None, ""): problem})


async def _find_bot_surges(check: CheckInput) -> Problems:
    """Find days with far more bots than usual.

    An alert is raised where there are also more bots than visitors. It stays for the day, even if visitors catch up.
    """
    problems: dict[AlertTarget, str] = {}
    for bots in await alert_queries.bots(check.connection, _LEAST_BOT_REQUESTS, check.now):
        target = bots.experiment_number, ""
        if bots.requests > _BOT_SURGE * bots.usual and (bots.requests > bots.visitors or target in check.open_since):
            problems[target] = (
                f"bots have sent {bots.requests:,} requests today, against {bots.usual:,.0f} on a usual day and "
                f"{bots.visitors:,} visitors today"
            )
    return Problems(problems)


async def _find_silences(check: CheckInput) -> Problems:
    """Find experiments without conversions for so long that 20 were to be expected.

    They must be expected both by the time that has passed and by the users who came. An alert stays until somebody
    converts.
    """
    problems: dict[AlertTarget, str] = {}
    for silence in await alert_queries.silences(check.connection, _RECENT):
        target = silence.experiment_number, ""
        raised_at = check.open_since.get(target)
        is_known = raised_at is not None and silence.since <= raised_at
        if is_known or await _is_too_long(check, silence):
            problems[target] = (
                f"no user has converted since {silence.since:%Y-%m-%d %H:%M} UTC, though {_EXPECTED_CONVERSIONS} or "
                "more conversions were to be expected at the rate of the seven days before"
            )
    return Problems(problems)


async def _is_too_long(check: CheckInput, silence: Silence) -> bool:
    if silence.successes < _EXPECTED_CONVERSIONS:  # too few to know the rate
        return False
    if silence.successes * (check.now - silence.since) < _EXPECTED_CONVERSIONS * silence.span:
        return False
    users_needed = _EXPECTED_CONVERSIONS * silence.trials / silence.successes - silence.trials_after
    if users_needed <= 0 or users_needed > silence.trials_of_last_day:
        return users_needed <= 0
    return await alert_queries.users_on_day_after(check.connection, silence) >= users_needed


async def _keep_failed_activations(check: CheckInput) -> Problems:
    """Keep the open alerts of running experiments.

    The checks of eligibility raise these alerts and resolve them; here they end where the experiment does not run.
    """
    running = await alert_queries.running(check.connection)
    return Problems({(number, key): "" for number, key in check.open_since if number in running})


CHECKS: Mapping[AlertKind, Callable[[CheckInput], Awaitable[Problems]]] = {
    AlertKind.SEGMENT_UNDERPERFORMS: _find_weak_segments,
    AlertKind.CLUSTER_MODEL_OLD: _find_old_models,
    AlertKind.DRAIN_LAG: _find_drain_lag,
    AlertKind.BOT_SURGE: _find_bot_surges,
    AlertKind.CONVERSIONS_STOPPED: _find_silences,
    AlertKind.AUTO_ACTIVATION_FAILED: _keep_failed_activations,
    AlertKind.SAMPLE_RATIO_MISMATCH: _find_sample_ratio_mismatches,  # last, since it takes longest
}
