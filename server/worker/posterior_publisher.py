"""Publishes a new posterior version for each experiment whose counts changed, at most once in an interval."""

import asyncio

import structlog

from server.alerts.faults import Faults
from server.clock import Clock
from server.publishing.posteriors import advance_posterior
from server.publishing.publish import publish
from storage.encryption import Secrets
from storage.postgres.counts import counts
from storage.postgres.experiments import experiments
from storage.postgres.pool import Connection, Pool
from storage.publication import Publication
from storage.redis.client import Client

log = structlog.get_logger()
_RETRY_SECONDS = 1.0


class PosteriorPublisher:
    """Collects the experiments whose counts changed, and publishes a posterior of each."""

    def __init__(
        self, pool: Pool, redis: Client, secrets: Secrets, clock: Clock, interval: float, faults: Faults
    ) -> None:
        """`interval` is the least time between two versions, in seconds."""
        self._faults = faults
        self._pool = pool
        self._redis = redis
        self._secrets = secrets
        self._clock = clock
        self._interval = interval
        self._changed: set[int] = set()
        self._wake = asyncio.Event()

    def mark_changed(self, experiment_numbers: set[int]) -> None:
        """Publish a new posterior of these experiments soon: their counts have changed."""
        if experiment_numbers:
            self._changed |= experiment_numbers
            self._wake.set()

    async def run(self) -> None:
        """Publish until cancelled, through outages of both stores."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            numbers, self._changed = self._changed, set()
            try:
                await self._publish(numbers)
            except Exception as error:
                log.warning(f"publishing failed, trying again in {_RETRY_SECONDS:g} s", error=repr(error))
                self.mark_changed(numbers)
                await asyncio.sleep(_RETRY_SECONDS)
            await asyncio.sleep(self._interval)

    async def _publish(self, numbers: set[int]) -> None:
        async with self._pool.acquire() as connection:
            for experiment_id in sorted(await counts.experiment_ids(connection, numbers)):
                # One that fails is tried again when the reconciler finds that its counts are not published.
                async with self._faults.isolate(connection, experiment_id, "publish its posterior"):
                    await self._publish_one(connection, experiment_id)

    async def _publish_one(self, connection: Connection, experiment_id: str) -> None:
        async with connection.transaction():
            experiment = await experiments.get(connection, experiment_id, lock=True)
            if experiment is None:
                return
            posterior = await advance_posterior(connection, self._secrets, experiment, self._clock)
        await publish(self._redis, self._secrets, Publication(experiment, posterior))
