"""Checks all running experiments every minute, and raises and resolves alerts. One worker at a time does so."""

import asyncio

import structlog

from server.alerts.checks import CHECKS, CheckInput, Problems, load_experiment
from server.alerts.faults import Faults
from server.alerts.updates import update_alert
from server.clock import Clock
from server.tasks import repeat
from storage.postgres import locks
from storage.postgres.counts import counts
from storage.postgres.operations import alerts
from storage.postgres.operations.alerts import AlertKind
from storage.postgres.pool import Connection, Pool
from storage.redis.client import Client

log = structlog.get_logger()
_INTERVAL_SECONDS = 60.0
_MOST_SECONDS = 60.0  # of one check


class AlertWatch:
    """Raises an alert for each new problem, and resolves it when the problem is over."""

    def __init__(self, pool: Pool, redis: Client, shards: int, clock: Clock, faults: Faults) -> None:
        self._faults = faults
        self._pool = pool
        self._redis = redis
        self._shards = shards
        self._clock = clock

    async def run(self) -> None:
        """Check until cancelled, through outages of both stores."""
        await repeat(self.run_once, _INTERVAL_SECONDS, "checking for alerts")

    async def run_once(self) -> None:
        """Run all checks, unless another worker does.

        If a check fails or takes too long, its alerts stay as they are. If it fails for one experiment alone, only the
        alerts of that experiment do.
        """
        async with (
            self._pool.acquire() as connection,
            locks.try_lease(connection, locks.ALERT_WATCH) as is_obtained,
        ):
            if not is_obtained:
                return
            for kind in CHECKS:
                try:
                    async with asyncio.timeout(_MOST_SECONDS):
                        await self._check(connection, kind)
                except Exception as error:
                    log.warning("alert not checked, trying again in a minute", alert=kind.value, error=repr(error))

    async def _check(self, connection: Connection, kind: AlertKind) -> None:
        now = self._clock()
        open_since = await alerts.still_open(connection, kind)
        problems = await CHECKS[kind](CheckInput(connection, self._redis, self._shards, open_since, now))
        begun = problems.found.keys() - open_since.keys()
        over = {
            (number, key)
            for number, key in open_since.keys() - problems.found.keys()
            if number not in problems.unchecked and number not in problems.failed
        }
        for number, key in sorted(begun | over, key=str):
            with problems.of(number):
                await self._update(connection, kind, number, key, problems.found.get((number, key)))
        await self._note_faults(connection, kind, problems)

    async def _update(
        self, connection: Connection, kind: AlertKind, number: int | None, key: str, problem: str | None
    ) -> None:
        async with connection.transaction():
            experiment = None if number is None else await load_experiment(connection, number)
            await update_alert(connection, experiment, kind, key, problem, self._clock())
        event = "alert resolved" if problem is None else "alert raised"
        log.info(event, alert=kind.value, key=key, experiment=experiment and experiment.experiment_id)

    async def _note_faults(self, connection: Connection, kind: AlertKind, problems: Problems) -> None:
        """Raise an alert about each experiment that could not be checked, and resolve those of the other ones."""
        activity = f"check it for {kind.value}"
        for number, error in problems.failed.items():
            if number is None:
                log.warning("installation not checked", alert=kind.value, error=repr(error))
                continue
            for experiment_id in await counts.experiment_ids(connection, {number}):
                await self._faults.note_failure(connection, experiment_id, activity, error)
        for number, key in await alerts.still_open(connection, AlertKind.EXPERIMENT_FAILS):
            if number is None or key != activity or number in problems.failed or number in problems.unchecked:
                continue
            for experiment_id in await counts.experiment_ids(connection, {number}):
                await self._faults.note_success(connection, experiment_id, activity)
