"""What all writes of the control plane share: one transaction with a remembered answer, then publication."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, TypeVar

import asyncpg
from google.protobuf.message import Message

from allocator.errors import ExperimentNotFoundError
from allocator.experiment import Experiment
from server.allocation.catalog import Catalog
from server.api.admin.messages import check_etag
from server.api.fields import Fields, check_slug
from server.clock import Clock
from server.publishing.posteriors import publish_segments
from storage.postgres.experiments import experiments
from storage.postgres.experiments.posteriors import SealedPosterior
from storage.postgres.operations import idempotency
from storage.postgres.pool import Connection
from storage.redis import publications
from storage.redis.client import Client

_Response = TypeVar("_Response", bound=Message)


@dataclass(frozen=True)
class Changed:
    """What a write made, to be published once it is committed."""

    experiment: Experiment
    posterior: SealedPosterior | None = None


class Writes:
    """Carries out writes."""

    def __init__(self, pool: asyncpg.Pool, redis: Client, catalog: Catalog, clock: Clock) -> None:
        """`catalog` is refreshed at once, so that the caller's next call sees the change in this process."""
        self._pool = pool
        self._redis = redis
        self._catalog = catalog
        self._clock = clock

    async def __call__(
        self,
        request: Any,
        change: Callable[[Connection], Awaitable[tuple[Changed, _Response]]],
        response: type[_Response],
    ) -> _Response:
        """The answer of `change`, or of the first attempt with the same request_id."""
        fields = Fields()
        fields.text("request_id", request.request_id, most=64)
        fields.check()
        fingerprint = blake2b(
            request.DESCRIPTOR.full_name.encode() + request.SerializeToString(deterministic=True), digest_size=16
        ).digest()
        async with self._pool.acquire() as connection, connection.transaction():
            if request.request_id:
                remembered = await idempotency.recall(connection, request.request_id, fingerprint)
                if remembered is not None:
                    return response.FromString(remembered)
            changed, answer = await change(connection)
            await publish_segments(connection, self._redis, changed.experiment.number)
            if request.request_id:
                await idempotency.remember(
                    connection, request.request_id, fingerprint, answer.SerializeToString(), self._clock()
                )
        await self._publish(changed)
        return answer

    async def _publish(self, changed: Changed) -> None:
        experiment_id = changed.experiment.experiment_id
        await publications.publish_experiment(self._redis, changed.experiment)
        if changed.posterior is not None:
            posterior = changed.posterior
            await publications.publish_posterior(self._redis, experiment_id, posterior.version, posterior.ciphertext)
        await self._catalog.refresh(experiment_id)


async def locked_experiment(connection: Connection, experiment_id: str, etag: str) -> Experiment:
    """The experiment, held until the transaction ends. Raises ExperimentNotFoundError, StaleEtagError."""
    check_slug("experiment_id", experiment_id)
    experiment = await experiments.get(connection, experiment_id, lock=True)
    if experiment is None:
        raise ExperimentNotFoundError(experiment_id)
    check_etag(experiment, etag)
    return experiment
