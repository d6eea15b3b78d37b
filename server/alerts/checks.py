"""The checks that raise alerts. Each one checks all running experiments, and says in words what is wrong.

A check changes no alert; `server.alerts.watch` raises and resolves them. An experiment that cannot be checked does not
keep the others from being checked.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol, TypeVar, cast

from allocator.estimates import sample_ratio_p_value
from allocator.estimates.binomial import under_half_p_value
from allocator.experiment import Experiment
from allocator.segments import display_name
from server.alerts.faults import is_outage
from storage.postgres.counts import counts
from storage.postgres.events.summed_log import summed_log
from storage.postgres.experiments import experiments
from storage.postgres.operations import alert_queries
from storage.postgres.operations.alert_queries import Silence, WeakSegment
from storage.postgres.operations.alerts import AlertKind, AlertTarget
from storage.postgres.operations.drain_activity import drain_activities
from storage.postgres.pool import Connection
from storage.redis import streams
from storage.redis.client import Client
from storage.redis.function_library import is_volatile

MOST_WAIT_SECONDS = 60.0  # an event that waits longer is worth an alert, and a line in the log
_CHANCE = 0.001  # a smaller probability is no chance
_RECENT = timedelta(days=7)
_OLD_MODEL = timedelta(days=7, hours=1)  # a model is trained anew after seven days; the hour is for its training
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

    found: each problem in words, without a full stop. failed: why an experiment, named by its number, or the
    installation, named by None, could not be checked. unchecked: numbers of experiments that were not to be checked
    this time. The alerts of both stay as they are.
    """

    found: dict[AlertTarget, str] = field(default_factory=dict)
    failed: dict[int | None, Exception] = field(default_factory=dict)
    unchecked: set[int] = field(default_factory=set)

    @contextmanager
    def of(self, number: int | None) -> Iterator[None]:
        """Run a block that checks one experiment. If the block fails, the experiment counts as failed.

        Raises an error that says that a store is out of reach: then the whole check fails.
        """
        try:
            yield
        except Exception as error:
            if is_outage(error):
                raise
            self.failed[number] = error


class _OfExperiment(Protocol):
    @property
    def experiment_number(self) -> int: ...


_Row = TypeVar("_Row", bound=_OfExperiment)


async def _each(
    problems: Problems, numbers: Iterable[int], read: Callable[[Sequence[int]], Awaitable[list[_Row]]]
) -> list[_Row]:
    """Return what a query reads of all these experiments.

    It reads them together. If that fails, it reads each half of them, and so on, until only those are left out whose
    data make the query fail.
    """
    wanted = sorted(numbers)
    if not wanted:
        return []
    try:
        return await read(wanted)
    except Exception as error:
        if is_outage(error):
            raise
        if len(wanted) == 1:
            problems.failed[wanted[0]] = error
            return []
    middle = len(wanted) // 2
    return [*await _each(problems, wanted[:middle], read), *await _each(problems, wanted[middle:], read)]


async def load_experiment(connection: Connection, number: int) -> Experiment:
    """Return the experiment with a number. It must exist."""
    (experiment_id,) = await counts.experiment_ids(connection, {number})
    return cast("Experiment", await experiments.get(connection, experiment_id))


async def _find_weak_segments(check: CheckInput) -> Problems:
    """Find segments whose rate is less than half of the experiment's.

    An alert is raised where that is unlikely to be chance, and stays until the rate is half or more.
    """
    problems = Problems()
    running = await alert_queries.running(check.connection)
    for weak in await _each(problems, running, lambda n: alert_queries.weak_segments(check.connection, n, check.now)):
        with problems.of(weak.experiment_number):
            target = weak.experiment_number, weak.segment_key
            is_chance = (
                under_half_p_value(weak.trials, weak.successes, weak.all_trials, weak.all_successes, weak.segments)
                >= _CHANCE
            )
            if target in check.open_since or not is_chance:
                experiment = await load_experiment(check.connection, weak.experiment_number)
                name = display_name(weak.segment_key, experiment.cluster_names)
                problems.found[target] = _describe_weak_segment(weak, name)
    return problems


def _describe_weak_segment(weak: WeakSegment, name: str) -> str:
    rate, overall_rate = weak.successes / weak.trials, weak.all_successes / weak.all_trials
    return (
        f"{100 * rate:.2f} % of users in {name} convert ({weak.successes:,} of {weak.trials:,}), less than half of the "
        f"{100 * overall_rate:.2f} % of all users"
    )


async def _find_old_models(check: CheckInput) -> Problems:
    problems = Problems()
    running, before = await alert_queries.running(check.connection), check.now - _OLD_MODEL
    for old in await _each(problems, running, lambda n: alert_queries.old_models(check.connection, n, before)):
        problems.found[old.experiment_number, ""] = (
            f"cluster model {old.version} was trained on {old.trained_at:%Y-%m-%d}, and no training has succeeded in "
            "the last seven days"
        )
    return problems


async def _find_sample_ratio_mismatches(check: CheckInput) -> Problems:
    """Check the logs of a few experiments each time, since that takes long, and of none more than once a day."""
    due = await alert_queries.take_sample_ratio_checks(
        check.connection, checked_before=check.now - _DAY, limit=_SAMPLE_RATIOS_AT_A_TIME, now=check.now
    )
    problems = Problems(unchecked=await alert_queries.running(check.connection) - due)
    for number in due:
        with problems.of(number):
            p_value = await _sample_ratio_p_value(check, await load_experiment(check.connection, number))
            if p_value is not None and p_value < _CHANCE:
                problems.found[number, ""] = (
                    "in the last seven days users did not get the variants in the shares that they were drawn with "
                    f"(p = {p_value:.1g}), so the results may be wrong"
                )
    return problems


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
    """Find the shard whose oldest event has waited longest, and say what its drain is doing.

    A shard whose Redis does not answer does not hide another shard that lags.
    """
    problems = Problems()
    ages: dict[int, float] = {}
    for shard in range(check.shards):
        try:
            ages[shard] = (await streams.backlog(check.redis, shard)).age
        except Exception as error:
            problems.failed[None] = error
    shard, age = max(ages.items(), key=lambda item: item[1], default=(0, 0.0))
    if age > MOST_WAIT_SECONDS:
        activity = (await drain_activities(check.connection)).get(shard)
        of_shard = f" of shard {shard}" if check.shards > 1 else ""
        problems.found[None, ""] = (
            f"the oldest event{of_shard} has waited {age:,.0f} seconds to be stored, and Samplit learns nothing new "
            f"from it meanwhile: {'no worker drains the shard' if activity is None else activity}"
        )
    return problems


async def _find_volatile_redis(check: CheckInput) -> Problems:
    if not await is_volatile(check.redis):
        return Problems({})
    problem = "Redis keeps no append-only file, so a restart of it loses what was acknowledged and is not stored yet"
    return Problems({(None, ""): problem})


async def _find_bot_surges(check: CheckInput) -> Problems:
    """Find days with far more bots than usual.

    An alert is raised where there are also more bots than visitors. It stays for the day, even if visitors catch up.
    """
    problems = Problems()
    running = await alert_queries.running(check.connection)
    for bots in await _each(
        problems, running, lambda n: alert_queries.bots(check.connection, n, _LEAST_BOT_REQUESTS, check.now)
    ):
        target = bots.experiment_number, ""
        if bots.requests > _BOT_SURGE * bots.usual and (bots.requests > bots.visitors or target in check.open_since):
            problems.found[target] = (
                f"bots have sent {bots.requests:,} requests today, against {bots.usual:,.0f} on a usual day and "
                f"{bots.visitors:,} visitors today"
            )
    return problems


async def _find_silences(check: CheckInput) -> Problems:
    """Find experiments without conversions for so long that 20 were to be expected.

    They must be expected both by the time that has passed and by the users who came. An alert stays until somebody
    converts.
    """
    problems = Problems()
    running = await alert_queries.running(check.connection)
    for silence in await _each(problems, running, lambda n: alert_queries.silences(check.connection, n, _RECENT)):
        with problems.of(silence.experiment_number):
            target = silence.experiment_number, ""
            raised_at = check.open_since.get(target)
            is_known = raised_at is not None and silence.since <= raised_at
            if is_known or await _is_too_long(check, silence):
                problems.found[target] = (
                    f"no user has converted since {silence.since:%Y-%m-%d %H:%M} UTC, though {_EXPECTED_CONVERSIONS} "
                    "or more conversions were to be expected at the rate of the seven days before"
                )
    return problems


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


async def _keep_faults(check: CheckInput) -> Problems:
    """Keep the open alerts about experiments that Samplit cannot work on: success resolves them.

    Here they end where the experiment is completed.
    """
    unfinished = await alert_queries.unfinished(check.connection)
    return Problems({(number, key): "" for number, key in check.open_since if number in unfinished})


CHECKS: Mapping[AlertKind, Callable[[CheckInput], Awaitable[Problems]]] = {
    AlertKind.DRAIN_LAG: _find_drain_lag,  # first, since the others may take long when events pile up
    AlertKind.VOLATILE_REDIS: _find_volatile_redis,
    AlertKind.EXPERIMENT_FAILS: _keep_faults,
    AlertKind.SEGMENT_UNDERPERFORMS: _find_weak_segments,
    AlertKind.CLUSTER_MODEL_OLD: _find_old_models,
    AlertKind.BOT_SURGE: _find_bot_surges,
    AlertKind.CONVERSIONS_STOPPED: _find_silences,
    AlertKind.AUTO_ACTIVATION_FAILED: _keep_failed_activations,
    AlertKind.SAMPLE_RATIO_MISMATCH: _find_sample_ratio_mismatches,  # last, since it takes longest
}
