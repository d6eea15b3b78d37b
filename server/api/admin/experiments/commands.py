"""The writes of ExperimentService."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import datetime
from typing import Any, TypeVar

from google.protobuf.message import Message

from allocator.errors import ExperimentStateError, InvalidFieldError
from allocator.experiment import Experiment, ExperimentDraft, ExperimentState
from server.api.admin.audit.records import changes, experiment_record
from server.api.admin.experiments.update import apply_update
from server.api.admin.messages import experiment_message
from server.api.admin.writes import Changed, Writes, locked_experiment
from server.api.authentication import caller
from server.clock import Clock
from server.publishing.posteriors import advance_posterior
from storage.encryption import Secrets
from storage.postgres.experiments import experiments, maturity
from storage.postgres.operations import audit
from storage.postgres.pool import Connection
from storage.postgres.segmentation import recommendations

_Response = TypeVar("_Response", bound=Message)
_FROM = {
    ExperimentState.RUNNING: (ExperimentState.DRAFT, ExperimentState.PAUSED),
    ExperimentState.PAUSED: (ExperimentState.RUNNING,),
    ExperimentState.COMPLETED: (ExperimentState.RUNNING, ExperimentState.PAUSED),
}
_ACTIONS = {
    ExperimentState.RUNNING: "experiment.start",
    ExperimentState.PAUSED: "experiment.pause",
    ExperimentState.COMPLETED: "experiment.complete",
}


class ExperimentCommands:
    """Creates and changes experiments. Each method answers a message with `experiment` set."""

    def __init__(self, writes: Writes, secrets: Secrets, clock: Clock) -> None:
        """Holds no state of its own."""
        self._writes = writes
        self._secrets = secrets
        self._clock = clock

    async def create(self, request: Any, draft: ExperimentDraft, response: type[_Response]) -> _Response:
        """Store a draft. Raises ExperimentExistsError."""

        async def insert(connection: Connection) -> Changed:
            now = self._clock()
            stored = await experiments.insert(connection, draft, now)
            await _record(connection, "experiment.create", None, stored, now)
            return Changed(stored)

        return await self._write(request, insert, response)

    async def update(self, request: Any, response: type[_Response]) -> _Response:
        """Change the masked fields. Raises InvalidFieldError, ExperimentStateError, StaleEtagError."""
        message = request.experiment

        async def change(connection: Connection) -> Changed:
            before = await locked_experiment(connection, message.experiment_id, message.etag)
            after = apply_update(before, message, list(request.update_mask.paths))
            now = self._clock()
            if after.maturity_seconds != before.maturity_seconds:
                await maturity.store(connection, before.number, after.maturity_seconds, now)
            stored = await experiments.update(connection, after, now)
            await _record(connection, "experiment.update", before, stored, now)
            unchanged = (stored.variants, stored.maturity_seconds) == (before.variants, before.maturity_seconds)
            if unchanged or stored.state is ExperimentState.DRAFT:
                return Changed(stored)
            return Changed(stored, await advance_posterior(connection, self._secrets, stored, self._clock))

        return await self._write(request, change, response)

    async def move(self, request: Any, state: ExperimentState, response: type[_Response]) -> _Response:
        """Bring the experiment into a state. Raises ExperimentStateError where it cannot go there from its own."""

        async def change(connection: Connection) -> Changed:
            before = await locked_experiment(connection, request.experiment_id, request.etag)
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
                await recommendations.withdraw(connection, before.number)
                after = replace(after, completed_at=now, winner_variant_id=_winner(before, request.winner_variant_id))
            stored = await experiments.update(connection, after, now)
            await _record(connection, _ACTIONS[state], before, stored, now)
            return Changed(stored)

        return await self._write(request, change, response)

    async def _write(
        self, request: Any, change: Callable[[Connection], Awaitable[Changed]], response: type[_Response]
    ) -> _Response:
        async def answered(connection: Connection) -> tuple[Changed, _Response]:
            changed = await change(connection)
            return changed, response(experiment=experiment_message(changed.experiment))

        return await self._writes(request, answered, response)


async def _record(
    connection: Connection, action: str, before: Experiment | None, after: Experiment, now: datetime
) -> None:
    was = {} if before is None else experiment_record(before)
    difference = changes(was, experiment_record(after))
    await audit.record(connection, after.number, caller.get(), action, *difference, now)


def _winner(experiment: Experiment, winner_variant_id: str) -> str:
    active = [variant.variant_id for variant in experiment.variants if not variant.retired]
    if winner_variant_id not in active:
        raise InvalidFieldError.of(
            "winner_variant_id", f"must be one of {', '.join(active)}; is {winner_variant_id[:70]!r}"
        )
    return winner_variant_id
