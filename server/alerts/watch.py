"""Checks all running experiments every minute, and raises and resolves alerts. One worker at a time does so."""

import structlog

from server.alerts.checks import CHECKS, CheckInput, load_experiment
from server.alerts.updates import update_alert
from server.clock import Clock
from server.tasks import repeat
from storage.postgres import locks
from storage.postgres.operations import alerts
from storage.postgres.operations.alerts import AlertKind
from storage.postgres.pool import Connection, Pool
from storage.redis.client import Client

log = structlog.get_logger()
_INTERVAL_SECONDS = 60.0


class AlertWatch:
    """Raises an alert for each new problem, and resolves it when the problem is over."""

    def __init__(self, pool: Pool, redis: Client, shards: int, clock: Clock) -> None:
        self._pool = pool
        self._redis = redis
        self._shards = shards
        self._clock = clock

    async def run(self) -> None:
        """Check until cancelled, through outages of both stores."""
        await repeat(self.run_once, _INTERVAL_SECONDS, "checking for alerts")

    async def run_once(self) -> None:
        """Run all checks, unless another worker does. If one fails, its alerts stay as they are."""
        async with (
            self._pool.acquire() as connection,
            locks.try_lease(connection, locks.ALERT_WATCH) as is_obtained,
        ):
            if not is_obtained:
                return
            for kind in CHECKS:
                try:
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
            if number not in problems.unchecked
        }
        for number, key in sorted(begun | over, key=str):
            problem = problems.found.get((number, key))
            async with connection.transaction():
                experiment = None if number is None else await load_experiment(connection, number)
                await update_alert(connection, experiment, kind, key, problem, now)
            event = "alert resolved" if problem is None else "alert raised"
            log.info(event, alert=kind.value, key=key, experiment=experiment and experiment.experiment_id)
