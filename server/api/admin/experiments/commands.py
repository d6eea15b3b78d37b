"""The writes of ExperimentService."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import datetime
from typing import TypeAlias, TypeVar

from samplit.admin.v1 import experiment_service_pb2 as pb

from allocator.errors import ExperimentStateError, InvalidFieldError
from allocator.experiment import Experiment, ExperimentState
from server.api.admin.audit.records import changes, experiment_record
from server.api.admin.experiments.update import apply_update
from server.api.admin.experiments.validation import experiment_draft
from server.api.admin.messages import experiment_message
from server.api.admin.writes import WriteRequest, Writes, locked_experiment
from server.api.authentication import caller
from server.clock import Clock
from server.publishing.posteriors import advance_posterior
from storage.encryption import Secrets
from storage.postgres.experiments import experiments, maturity
from storage.postgres.operations import audit
from storage.postgres.pool import Connection
from storage.postgres.segmentation import recommendations

_MoveRequest: TypeAlias = pb.StartExperimentRequest | pb.PauseExperimentRequest | pb.CompleteExperimentRequest
_Response = TypeVar(
    "_Response",
    pb.CreateExperimentResponse,
    pb.UpdateExperimentResponse,
    pb.StartExperimentResponse,
    pb.PauseExperimentResponse,
    pb.CompleteExperimentResponse,
)
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
    """Creates and changes experiments."""

    def __init__(self, writes: Writes, secrets: Secrets, clock: Clock) -> None:
        self._writes = writes
        self._secrets = secrets
        self._clock = clock

    async def create(self, request: pb.CreateExperimentRequest) -> pb.CreateExperimentResponse:
        """Store a draft. Raises InvalidFieldError, ExperimentExistsError."""
        draft = experiment_draft(request.experiment)

        async def insert(connection: Connection) -> Experiment:
            now = self._clock()
            await _check_time_zone(connection, draft.time_zone)
            stored = await experiments.insert(connection, draft, now)
            await _record(connection, "experiment.create", None, stored, now)
            return stored

        return await self._write(request, insert, pb.CreateExperimentResponse)

    async def update(self, request: pb.UpdateExperimentRequest) -> pb.UpdateExperimentResponse:
        """Change the masked fields. Raises InvalidFieldError, ExperimentStateError, StaleEtagError."""
        message = request.experiment

        async def change(connection: Connection) -> Experiment:
            before = await locked_experiment(connection, message.experiment_id, message.etag)
            after = apply_update(before, message, list(request.update_mask.paths))
            now = self._clock()
            if after.time_zone != before.time_zone:
                await _check_time_zone(connection, after.time_zone)
            if after.maturity_seconds != before.maturity_seconds:
                await maturity.store(connection, before.number, after.maturity_seconds, now)
            stored = await experiments.update(connection, after, now)
            await _record(connection, "experiment.update", before, stored, now)
            unchanged = (stored.variants, stored.maturity_seconds) == (before.variants, before.maturity_seconds)
            if not unchanged and stored.state is not ExperimentState.DRAFT:
                await advance_posterior(connection, self._secrets, stored, self._clock)
            return stored

        return await self._write(request, change, pb.UpdateExperimentResponse)

    async def start(self, request: pb.StartExperimentRequest) -> pb.StartExperimentResponse:
        """Start or resume the experiment. Raises ExperimentStateError, StaleEtagError."""
        return await self._move(request, ExperimentState.RUNNING, pb.StartExperimentResponse)

    async def pause(self, request: pb.PauseExperimentRequest) -> pb.PauseExperimentResponse:
        """Pause the experiment. Raises ExperimentStateError, StaleEtagError."""
        return await self._move(request, ExperimentState.PAUSED, pb.PauseExperimentResponse)

    async def complete(self, request: pb.CompleteExperimentRequest) -> pb.CompleteExperimentResponse:
        """Complete the experiment. Raises InvalidFieldError, ExperimentStateError, StaleEtagError."""
        return await self._move(request, ExperimentState.COMPLETED, pb.CompleteExperimentResponse)

    async def _move(self, request: _MoveRequest, state: ExperimentState, response: type[_Response]) -> _Response:
        async def change(connection: Connection) -> Experiment:
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
            if isinstance(request, pb.CompleteExperimentRequest):
                await recommendations.withdraw(connection, before.number)
                after = replace(after, completed_at=now, winner_variant_id=_winner(before, request.winner_variant_id))
            stored = await experiments.update(connection, after, now)
            await _record(connection, _ACTIONS[state], before, stored, now)
            return stored

        return await self._write(request, change, response)

    async def _write(
        self, request: WriteRequest, change: Callable[[Connection], Awaitable[Experiment]], response: type[_Response]
    ) -> _Response:
        async def change_and_answer(connection: Connection) -> tuple[Experiment, _Response]:
            changed = await change(connection)
            return changed, response(experiment=experiment_message(changed))

        return await self._writes(request, change_and_answer, response)


async def _check_time_zone(connection: Connection, name: str) -> None:
    if not await experiments.knows_time_zone(connection, name):
        raise InvalidFieldError.of("experiment.time_zone", f"must be a time zone that PostgreSQL knows, is {name!r}")


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
