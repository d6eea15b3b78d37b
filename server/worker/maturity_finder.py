"""Finds the maturity of experiments that ask for it: the time within which 95 % of the conversions come."""

import math
from collections.abc import Callable

import structlog

from allocator.experiment import LEAST_MATURITY, MOST_MATURITY
from server.alerts.faults import Faults
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
_LEAST_CHANGE = 0.1  # of the maturity; a smaller change is not worth counting all users again


class MaturityFinder:
    """Measures every five minutes how long users take to convert, and sets maturities accordingly."""

    def __init__(self, pool: Pool, clock: Clock, on_counts_changed: Callable[[set[int]], None], faults: Faults) -> None:
        """`on_counts_changed` is called with the numbers of the experiments whose counts have changed."""
        self._pool = pool
        self._clock = clock
        self._on_counts_changed = on_counts_changed
        self._faults = faults

    async def run(self) -> None:
        """Run until cancelled, through outages of PostgreSQL."""
        await repeat(self.run_once, _INTERVAL_SECONDS, "finding maturities")

    async def run_once(self) -> None:
        """Set the maturities that have changed by a tenth or more, and delete old cohorts."""
        async with self._pool.acquire() as connection:
            await cohorts.forget(connection, self._clock())
            for experiment_id in await maturity.automatic(connection):
                async with (
                    self._faults.isolate(connection, experiment_id, "find its maturity"),
                    connection.transaction(),
                ):
                    await self._update_maturity(connection, experiment_id)

    async def _update_maturity(self, connection: Connection, experiment_id: str) -> None:
        experiment = await experiments.get(connection, experiment_id)
        if experiment is None or experiment.started_at is None:
            return
        now = self._clock()
        # Users who came in the first half of the time have been observed for the second half at least, so all delays up
        # to half of the time are known.
        half_time = experiment.started_at + (now - experiment.started_at) / 2
        delay = await maturity.observed_delay(
            connection, experiment.number, half_time, quantile=_QUANTILE, least=_LEAST_CONVERSIONS
        )
        if delay is None:
            return
        seconds = min(max(math.ceil(delay.total_seconds()), LEAST_MATURITY), MOST_MATURITY)
        if abs(seconds - experiment.maturity_seconds) <= _LEAST_CHANGE * experiment.maturity_seconds:
            return
        locked = await experiments.get(connection, experiment_id, lock=True)
        if locked is None or not locked.auto_maturity:
            return
        await maturity.store(connection, experiment.number, seconds, now)
        old, new = {"maturity_seconds": locked.maturity_seconds}, {"maturity_seconds": seconds}
        await audit.record(connection, experiment.number, audit.SAMPLIT, "experiment.update", old, new, now)
        log.info("maturity changed", experiment=experiment_id, seconds=seconds)
        self._on_counts_changed({experiment.number})
