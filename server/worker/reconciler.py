"""Publishes what PostgreSQL holds and Redis lacks: what a crash kept from being published, or everything."""

from collections.abc import Callable
from datetime import timedelta

import structlog

from server.alerts.faults import Faults
from server.clock import Clock
from server.publishing.api_keys import publish_api_keys
from server.publishing.publish import publish
from server.publishing.segments import publish_segments
from server.tasks import repeat
from storage.encryption import Secrets
from storage.postgres.counts import counts, traffic
from storage.postgres.experiments import experiments, posteriors
from storage.postgres.experiments.experiments import Progress
from storage.postgres.operations import idempotency
from storage.postgres.pool import Connection, Pool
from storage.postgres.schema import installation_fingerprint
from storage.redis import bot_requests, completeness, installation, published
from storage.redis.client import Client

log = structlog.get_logger()
_INTERVAL_SECONDS = 5.0
_EXPERIMENTS_AT_A_TIME = 500
_REQUEST_IDS_KEPT = timedelta(hours=24)


class Reconciler:
    """Compares the versions in both stores every five seconds, and publishes what is newer in PostgreSQL."""

    def __init__(
        self,
        pool: Pool,
        redis: Client,
        secrets: Secrets,
        clock: Clock,
        on_counts_changed: Callable[[set[int]], None],
        faults: Faults,
    ) -> None:
        """`on_counts_changed` is called with the numbers of experiments whose counts no posterior contains yet."""
        self._pool = pool
        self._redis = redis
        self._secrets = secrets
        self._clock = clock
        self._on_counts_changed = on_counts_changed
        self._faults = faults

    async def run(self) -> None:
        """Reconcile until cancelled, through outages of both stores."""
        await repeat(self.run_once, _INTERVAL_SECONDS, "reconciling Redis with PostgreSQL")

    async def run_once(self) -> None:
        """Publish what Redis lacks, and move counts of bot requests from Redis to PostgreSQL.

        Raises StoreUnavailableError if Redis belongs to another installation.
        """
        async with self._pool.acquire() as connection:
            await installation.agree_on_installation(self._redis, await installation_fingerprint(connection))
            was_complete = await completeness.is_complete(self._redis)
            await publish_api_keys(connection, self._redis, self._secrets)
            progress = await experiments.progress(connection)
            for start in range(0, len(progress), _EXPERIMENTS_AT_A_TIME):
                chunk = progress[start : start + _EXPERIMENTS_AT_A_TIME]
                await self._publish_missing(connection, chunk, was_complete=was_complete)
            # An experiment that cannot be published does not keep Redis from being complete for all others.
            if not was_complete:  # if it was complete and is not any more, Redis has lost what was compared: try again
                await completeness.set_complete(self._redis)
            self._on_counts_changed(await counts.unpublished(connection))
            await traffic.add_bot_requests(connection, await bot_requests.take(self._redis))
            await idempotency.forget(connection, self._clock() - _REQUEST_IDS_KEPT)

    async def _publish_missing(self, connection: Connection, progress: list[Progress], *, was_complete: bool) -> None:
        """Publish the experiments that Redis has older versions of, or all of them if Redis has lost its data.

        A Redis that lost its data may have the newest versions again, from another publisher, and no segments.
        """
        versions = await published.load_versions(self._redis, [row.experiment_id for row in progress])
        for row, known in zip(progress, versions, strict=True):
            if not was_complete or known.revision < row.revision or known.posterior_version < row.posterior_version:
                async with self._faults.isolate(connection, row.experiment_id, "publish its configuration"):
                    await self._publish(connection, row.experiment_id)

    async def _publish(self, connection: Connection, experiment_id: str) -> None:
        publication = await posteriors.load_publication(connection, experiment_id)
        if publication is not None:
            await publish_segments(connection, self._redis, publication.experiment.number)
            await publish(self._redis, self._secrets, publication)
