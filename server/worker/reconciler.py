"""Publishes what Redis lacks of what Postgres holds: a publication that a crash prevented, or everything."""

from collections.abc import Callable
from datetime import timedelta

import structlog

from server.clock import Clock
from server.publishing.api_keys import publish_api_keys
from server.publishing.publish import publish
from server.publishing.segments import publish_segments
from server.tasks import repeat
from storage.postgres.counts import counts, traffic
from storage.postgres.experiments import experiments, posteriors
from storage.postgres.experiments.experiments import Progress
from storage.postgres.operations import idempotency
from storage.postgres.pool import Connection, Pool
from storage.redis import bot_requests, published
from storage.redis.client import Client

log = structlog.get_logger()
_INTERVAL_SECONDS = 5.0
_CHUNK = 500
_REMEMBER_REQUESTS = timedelta(hours=24)


class Reconciler:
    """Compares versions every few seconds, and publishes what is behind."""

    def __init__(self, pool: Pool, redis: Client, clock: Clock, changed: Callable[[set[int]], None]) -> None:
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
            was_complete = await published.is_complete(self._redis)
            await publish_api_keys(connection, self._redis)
            progress = await experiments.progress(connection)
            for start in range(0, len(progress), _CHUNK):
                await self._publish_missing(connection, progress[start : start + _CHUNK])
            if not was_complete:  # if it was, and is not now, what was compared is gone
                await published.set_complete(self._redis)
            self._changed(await counts.unpublished(connection))
            await traffic.add_bot_requests(connection, await bot_requests.take(self._redis))
            await idempotency.forget(connection, self._clock() - _REMEMBER_REQUESTS)

    async def _publish_missing(self, connection: Connection, progress: list[Progress]) -> None:
        versions = await published.load_versions(self._redis, [row.experiment_id for row in progress])
        for row, known in zip(progress, versions, strict=True):
            if known.revision < row.revision or known.posterior_version < row.posterior_version:
                publication = await posteriors.load_publication(connection, row.experiment_id)
                if publication is not None:
                    await publish_segments(connection, self._redis, publication.experiment.number)
                    await publish(self._redis, publication)
