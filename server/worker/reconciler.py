"""Mends what Redis lacks of what Postgres holds: a publication that a crash prevented, or all of it."""

from collections.abc import Callable
from datetime import timedelta

import asyncpg
import structlog

from server.clock import Clock
from server.publishing.posteriors import publish_segments
from server.tasks import repeat
from storage.postgres.counts import counts, traffic
from storage.postgres.experiments import experiments, posteriors
from storage.postgres.experiments.experiments import Progress
from storage.postgres.operations import api_keys as stored_keys
from storage.postgres.operations import idempotency
from storage.redis import api_keys, bot_requests, publications
from storage.redis.client import Client

log = structlog.get_logger()
_INTERVAL_SECONDS = 5.0
_CHUNK = 500
_REMEMBER_REQUESTS = timedelta(hours=24)


class Reconciler:
    """Compares versions every few seconds, and publishes what is behind."""

    def __init__(self, pool: asyncpg.Pool, redis: Client, clock: Clock, changed: Callable[[set[int]], None]) -> None:
        """`changed` is told of experiments whose counts no posterior knows."""
        self._pool = pool
        self._redis = redis
        self._clock = clock
        self._changed = changed

    async def run(self) -> None:
        """Reconcile until cancelled, through outages of both stores."""
        await repeat(self.run_once, _INTERVAL_SECONDS, "reconciliation")

    async def run_once(self) -> None:
        """Bring Redis up to date with Postgres."""
        async with self._pool.acquire() as connection:
            was_complete = await publications.is_complete(self._redis)
            active = await stored_keys.active(connection)
            if {key.secret_hash: key for key in active} != await api_keys.load(self._redis):
                await api_keys.publish(self._redis, active)
            progress = await experiments.progress(connection)
            for start in range(0, len(progress), _CHUNK):
                await self._publish_missing(connection, progress[start : start + _CHUNK])
            if not was_complete:  # if it was, and is not now, what was compared is gone
                await publications.set_complete(self._redis)
            self._changed(await counts.unpublished(connection))
            await traffic.add_bot_requests(connection, await bot_requests.take(self._redis))
            await idempotency.forget(connection, self._clock() - _REMEMBER_REQUESTS)

    async def _publish_missing(self, connection: asyncpg.pool.PoolConnectionProxy, progress: list[Progress]) -> None:
        published = await publications.published_versions(self._redis, [row.experiment_id for row in progress])
        for row, there in zip(progress, published, strict=True):
            if there.revision >= row.revision and there.posterior_version >= row.posterior_version:
                continue
            experiment = await experiments.get(connection, row.experiment_id)
            if experiment is None:
                continue
            await publish_segments(connection, self._redis, experiment.number)
            posterior = await posteriors.load(connection, experiment.number)
            if posterior is not None:
                await publications.publish_posterior(
                    self._redis, row.experiment_id, posterior.version, posterior.ciphertext
                )
            await publications.publish_experiment(self._redis, experiment)
