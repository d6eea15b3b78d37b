"""Answers from Postgres while Redis is away: users whom Postgres knows keep their variant."""

import asyncio
from collections.abc import Callable, Sequence

import structlog

from server.allocation.coalescer import Coalescer
from server.logs import LogThrottle
from storage.encryption import Secrets
from storage.postgres.events import assignments
from storage.postgres.experiments import posteriors
from storage.postgres.pool import Pool
from storage.postgres.segmentation import cluster_models
from storage.records import Found, Lookup
from storage.redis.published import Published
from storage.sealing import open_posterior

log = structlog.get_logger()
_throttle = LogThrottle()
_TIMEOUT_SECONDS = 0.5


class PostgresFallback:
    """Reads only: Redis is the one writer of assignments. Look-ups of users are coalesced."""

    def __init__(self, pool: Pool, secrets: Secrets) -> None:
        self._pool = pool
        self._secrets = secrets
        self._lookups: Coalescer[Lookup, Found | None] = Coalescer(self._start)
        self._tasks: set[asyncio.Task[None]] = set()

    async def find(self, lookup: Lookup) -> Found | None:
        """Return the record of a user, or None if there is none or Postgres does not answer."""
        (future,) = self._lookups.submit_all((lookup,))
        return await future

    async def experiment(self, experiment_id: str) -> Published | None:
        """Return an experiment as it would be published, or None."""
        async with asyncio.timeout(_TIMEOUT_SECONDS), self._pool.acquire() as connection:
            publication = await posteriors.load_publication(connection, experiment_id)
        if publication is None:
            return None
        sealed = publication.posterior
        if sealed is None:
            return Published(publication.experiment, None)
        tables = open_posterior(self._secrets, experiment_id, sealed.version, sealed.ciphertext)
        return Published(publication.experiment, tables)

    async def model(self, experiment_number: int, version: int) -> bytes | None:
        """Return an encrypted cluster model, or None."""
        async with asyncio.timeout(_TIMEOUT_SECONDS), self._pool.acquire() as connection:
            return await cluster_models.sealed(connection, experiment_number, version)

    def _start(self, lookups: Sequence[Lookup], done: Callable[[Sequence[Found | None] | Exception], None]) -> None:
        task = asyncio.create_task(self._find(lookups, done))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _find(
        self, lookups: Sequence[Lookup], done: Callable[[Sequence[Found | None] | Exception], None]
    ) -> None:
        found: Sequence[Found | None] = [None] * len(lookups)
        try:
            async with asyncio.timeout(_TIMEOUT_SECONDS), self._pool.acquire() as connection:
                found = await assignments.find(connection, lookups)
        except Exception as error:
            if calls := _throttle.admit("find"):
                log.warning("users are not found in PostgreSQL either", calls=calls, error=repr(error))
        finally:
            done(found)
