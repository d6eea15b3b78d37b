"""What all writes of the control plane share: one transaction with a remembered answer, then publication."""

from collections.abc import Awaitable, Callable
from hashlib import blake2b
from typing import Protocol, TypeVar

from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message

from allocator.experiment import Experiment
from server.allocation.catalog import Catalog
from server.api.admin.messages import check_etag
from server.api.fields import Fields, check_slug
from server.clock import Clock
from server.publishing.publish import publish
from server.publishing.segments import publish_segments
from storage.encryption import Secrets
from storage.postgres.experiments import experiments, posteriors
from storage.postgres.operations import idempotency
from storage.postgres.pool import Connection, Pool
from storage.publication import Publication
from storage.redis.client import Client

_Response = TypeVar("_Response", bound=Message)


class WriteRequest(Protocol):
    """A request message of an admin write."""

    request_id: str

    @property
    def DESCRIPTOR(self) -> Descriptor: ...  # noqa: N802, D102 (protobuf's name)

    def SerializeToString(self, *, deterministic: bool = ...) -> bytes: ...  # noqa: N802, D102 (protobuf's name)


class Writes:
    """Carries out the writes of the control plane."""

    def __init__(self, pool: Pool, redis: Client, secrets: Secrets, catalog: Catalog, clock: Clock) -> None:
        """`catalog` is refreshed after a write, so that the caller's next call to this process sees the change."""
        self._pool = pool
        self._redis = redis
        self._secrets = secrets
        self._catalog = catalog
        self._clock = clock

    async def __call__(
        self,
        request: WriteRequest,
        change: Callable[[Connection], Awaitable[tuple[Experiment, _Response]]],
        response: type[_Response],
    ) -> _Response:
        """Return the answer of `change`, or of the first attempt with the same request_id.

        `change` is called in a transaction. The experiment that it returns is published after the commit.
        """
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
            experiment, answer = await change(connection)
            await publish_segments(connection, self._redis, experiment.number)
            if request.request_id:
                await idempotency.remember(
                    connection, request.request_id, fingerprint, answer.SerializeToString(), self._clock()
                )
            publication = Publication(experiment, await posteriors.load(connection, experiment.number))
        await publish(self._redis, self._secrets, publication)
        await self._catalog.refresh(experiment.experiment_id)
        return answer


async def locked_experiment(connection: Connection, experiment_id: str, etag: str) -> Experiment:
    """Return an experiment, locked until the transaction ends.

    Raises InvalidFieldError, ExperimentNotFoundError, StaleEtagError.
    """
    experiment = await experiments.require(connection, check_slug("experiment_id", experiment_id), lock=True)
    check_etag(experiment, etag)
    return experiment
