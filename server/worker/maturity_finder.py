"""Finds the maturity of experiments that ask for it: the time within which most conversions come."""

import math
from collections.abc import Callable

import structlog

from allocator.experiment import LEAST_MATURITY, MOST_MATURITY
from server.clock import Clock
from server.tasks import repeat
from storage.postgres.counts import cohorts
from storage.postgres.experiments import experiments, maturity
from storage.postgres.operations import audit
from storage.postgres.pool import Connection, Pool

log = structlog.get_logger()
_INTERVAL_SECONDS = 300.0
_QUANTILE = 0.95
_LEAST_CONVERSIONS = 100
_CHANGE = 0.1  # less is not worth counting again


class MaturityFinder:
    """Looks at the delays every five minutes."""

    def __init__(self, pool: Pool, clock: Clock, changed: Callable[[set[int]], None]) -> None:
        """`changed` is told of experiments whose counts changed."""
        self._pool = pool
        self._clock = clock
        self._changed = changed

    async def run(self) -> None:
        """Look until cancelled, through outages of Postgres."""
        await repeat(self.run_once, _INTERVAL_SECONDS, "finding maturities")

    async def run_once(self) -> None:
        """Set the maturities that have changed, and drop cohorts that are old."""
        async with self._pool.acquire() as connection:
            await cohorts.forget(connection, self._clock())
            for experiment_id in await maturity.automatic(connection):
                async with connection.transaction():
                    await self._find(connection, experiment_id)

    async def _find(self, connection: Connection, experiment_id: str) -> None:
        experiment = await experiments.get(connection, experiment_id)
        if experiment is None or experiment.started_at is None:
            return
        now = self._clock()
        # Of users who came in the first half, delays up to half the time that has passed can be seen.
        half = experiment.started_at + (now - experiment.started_at) / 2
        delay = await maturity.observed_delay(
            connection, experiment.number, half, quantile=_QUANTILE, least=_LEAST_CONVERSIONS
        )
        if delay is None:
            return
        seconds = min(max(math.ceil(delay.total_seconds()), LEAST_MATURITY), MOST_MATURITY)
        if abs(seconds - experiment.maturity_seconds) <= _CHANGE * experiment.maturity_seconds:
            return
        locked = await experiments.get(connection, experiment_id, lock=True)
        if locked is None or not locked.auto_maturity:
            return
        await maturity.store(connection, experiment.number, seconds, now)
        difference = {"maturity_seconds": locked.maturity_seconds}, {"maturity_seconds": seconds}
        await audit.record(connection, experiment.number, audit.SAMPLIT, "experiment.update", *difference, now)
        log.info("maturity found", experiment=experiment_id, seconds=seconds)
        self._changed({experiment.number})
