"""The writes of the control plane: each in one transaction with its remembered answer, then published."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Any, TypeVar

import asyncpg
from google.protobuf.message import Message
from redis.asyncio import Redis

from allocator.errors import ExperimentNotFoundError, ExperimentStateError, InvalidFieldError
from allocator.experiment import Experiment, ExperimentDraft, ExperimentState
from server.admin.messages import check_etag, experiment_message
from server.admin.update import apply_update
from server.catalog import Catalog
from server.clock import Clock
from server.fields import Fields, check_slug
from server.publisher import advance_posterior
from storage.encryption import Secrets
from storage.postgres import experiments, maturity, requests
from storage.postgres.pool import Connection
from storage.postgres.posteriors import SealedPosterior
from storage.redis import publications

_Response = TypeVar("_Response", bound=Message)
_FROM = {
    ExperimentState.RUNNING: (ExperimentState.DRAFT, ExperimentState.PAUSED),
    ExperimentState.PAUSED: (ExperimentState.RUNNING,),
    ExperimentState.COMPLETED: (ExperimentState.RUNNING, ExperimentState.PAUSED),
}


@dataclass(frozen=True)
class Changed:
    """What a write made, to be published once it is committed."""

    experiment: Experiment
    posterior: SealedPosterior | None = None


class ExperimentCommands:
    """Creates and changes experiments. Each method answers a message with `experiment` set."""

    def __init__(self, pool: asyncpg.Pool, redis: Redis, secrets: Secrets, catalog: Catalog, clock: Clock) -> None:
        """`catalog` is refreshed at once, so that the caller's next call sees the change in this process."""
        self._pool = pool
        self._redis = redis
        self._secrets = secrets
        self._catalog = catalog
        self._clock = clock

    async def create(self, request: Any, draft: ExperimentDraft, response: type[_Response]) -> _Response:
        """Store a draft. Raises ExperimentExistsError."""

        async def insert(connection: Connection) -> Changed:
            return Changed(await experiments.insert(connection, draft, self._clock()))

        return await self._write(request, insert, response)

    async def update(self, request: Any, response: type[_Response]) -> _Response:
        """Change the masked fields. Raises InvalidFieldError, NotBuiltError, ExperimentStateError, StaleEtagError."""
        message = request.experiment

        async def change(connection: Connection) -> Changed:
            before = await self._locked(connection, message.experiment_id, message.etag)
            after = apply_update(before, message, list(request.update_mask.paths))
            now = self._clock()
            if after.maturity_seconds != before.maturity_seconds:
                await maturity.store(connection, before.number, after.maturity_seconds, now)
            stored = await experiments.update(connection, after, now)
            unchanged = (stored.variants, stored.maturity_seconds) == (before.variants, before.maturity_seconds)
            if unchanged or stored.state is ExperimentState.DRAFT:
                return Changed(stored)
            return Changed(stored, await advance_posterior(connection, self._secrets, stored, self._clock))

        return await self._write(request, change, response)

    async def move(self, request: Any, state: ExperimentState, response: type[_Response]) -> _Response:
        """Bring the experiment into a state. Raises ExperimentStateError where it cannot go there from its own."""

        async def change(connection: Connection) -> Changed:
            before = await self._locked(connection, request.experiment_id, request.etag)
            if before.state not in _FROM[state]:
                raise ExperimentStateError(
                    f"experiment {before.experiment_id!r} is {before.state.value}: it must be "
                    f"{' or '.join(origin.value for origin in _FROM[state])} to become {state.value}",
                    experiment_id=before.experiment_id,
                    state=before.state.value,
                )
            now = self._clock()
            after = replace(before, state=state, started_at=before.started_at or now)
            if state is ExperimentState.COMPLETED:
                after = replace(after, completed_at=now, winner_variant_id=_winner(before, request.winner_variant_id))
            return Changed(await experiments.update(connection, after, now))

        return await self._write(request, change, response)

    async def _locked(self, connection: Connection, experiment_id: str, etag: str) -> Experiment:
        check_slug("experiment_id", experiment_id)
        experiment = await experiments.get(connection, experiment_id, lock=True)
        if experiment is None:
            raise ExperimentNotFoundError(experiment_id)
        check_etag(experiment, etag)
        return experiment

    async def _write(
        self, request: Any, change: Callable[[Connection], Awaitable[Changed]], response: type[_Response]
    ) -> _Response:
        fields = Fields()
        fields.text("request_id", request.request_id, most=64)
        fields.check()
        fingerprint = blake2b(
            request.DESCRIPTOR.full_name.encode() + request.SerializeToString(deterministic=True), digest_size=16
        ).digest()
        async with self._pool.acquire() as connection, connection.transaction():
            if request.request_id:
                remembered = await requests.recall(connection, request.request_id, fingerprint)
                if remembered is not None:
                    return response.FromString(remembered)
            changed = await change(connection)
            answer = response(experiment=experiment_message(changed.experiment))
            if request.request_id:
                await requests.remember(
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


def _winner(experiment: Experiment, winner_variant_id: str) -> str:
    active = [variant.variant_id for variant in experiment.variants if not variant.retired]
    if winner_variant_id not in active:
        raise InvalidFieldError.of(
            "winner_variant_id", f"must be one of {', '.join(active)}; is {winner_variant_id[:70]!r}"
        )
    return winner_variant_id
