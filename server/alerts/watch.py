"""Looks every minute for what needs a look: one worker at a time, over all running experiments."""

import asyncpg
import structlog

from server.alerts.checks import CHECKS, Look, experiment_of
from server.alerts.report import report
from server.clock import Clock
from server.tasks import keep_on
from storage.postgres import locks
from storage.postgres.operations import alerts
from storage.postgres.operations.alerts import AlertKind
from storage.postgres.pool import Connection
from storage.redis.client import Client

log = structlog.get_logger()
_INTERVAL_SECONDS = 60.0


class Watch:
    """Raises what is new, and resolves what is over."""

    def __init__(self, pool: asyncpg.Pool, redis: Client, shards: int, clock: Clock) -> None:
        """Holds no state of its own."""
        self._pool = pool
        self._redis = redis
        self._shards = shards
        self._clock = clock

    async def run(self) -> None:
        """Look until cancelled, through outages of both stores."""
        await keep_on(self.once, _INTERVAL_SECONDS, "looking for alerts")

    async def once(self) -> None:
        """Look at everything, unless another worker does. A check that fails keeps its alerts as they are."""
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
                    log.warning("not checked", alert=kind.value, error=repr(error))

    async def _check(self, connection: Connection, kind: AlertKind) -> None:
        now = self._clock()
        still_open = await alerts.still_open(connection, kind)
        problems = await CHECKS[kind](Look(connection, self._redis, self._shards, still_open, now))
        over = {place for place in still_open.keys() - problems.found.keys() if place[0] not in problems.undecided}
        for number, key in sorted(over ^ (problems.found.keys() - still_open.keys()), key=str):
            problem = problems.found.get((number, key))
            async with connection.transaction():
                experiment = None if number is None else await experiment_of(connection, number)
                await report(connection, experiment, kind, key, problem, now)
            event = "alert resolved" if problem is None else "alert raised"
            log.info(event, alert=kind.value, key=key, experiment=experiment and experiment.experiment_id)
