"""ExperimentService: converts and delegates."""

from typing import Any, TypeAlias

import grpc
from samplit.admin.v1 import experiment_pb2
from samplit.admin.v1 import experiment_service_pb2 as pb
from samplit.admin.v1 import experiment_service_pb2_grpc as pb_grpc

from allocator.errors import InvalidFieldError
from allocator.experiment import ExperimentState
from server.allocation.catalog import Catalog
from server.api.admin.experiments.commands import ExperimentCommands
from server.api.admin.experiments.explanation import explain_assignment
from server.api.admin.experiments.results import experiment_results
from server.api.admin.messages import experiment_message
from server.api.admin.page_tokens import PageTokens, page_size
from server.api.admin.reads import read_experiment
from server.clock import Clock
from storage.postgres.experiments import experiments
from storage.postgres.pool import Pool

_Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"  # generic in the stubs only


class ExperimentServicer(pb_grpc.ExperimentServiceServicer):
    """Creates, changes, lists and explains experiments."""

    def __init__(
        self,
        pool: Pool,
        commands: ExperimentCommands,
        catalog: Catalog,
        identity: bytes,
        clock: Clock,
        tokens: PageTokens,
    ) -> None:
        """`identity` is the key of the hashes of users."""
        self._tokens = tokens
        self._pool = pool
        self._commands = commands
        self._catalog = catalog
        self._identity = identity
        self._clock = clock

    async def CreateExperiment(
        self, request: pb.CreateExperimentRequest, _context: _Context
    ) -> pb.CreateExperimentResponse:
        return await self._commands.create(request)

    async def GetExperiment(self, request: pb.GetExperimentRequest, _context: _Context) -> pb.GetExperimentResponse:
        async with self._pool.acquire() as connection:
            experiment = await read_experiment(connection, request.experiment_id)
        return pb.GetExperimentResponse(experiment=experiment_message(experiment))

    async def ListExperiments(
        self, request: pb.ListExperimentsRequest, _context: _Context
    ) -> pb.ListExperimentsResponse:
        size = page_size(request.page_size)
        state = _state(request.state)
        listing = f"experiments/{state}"
        before = self._tokens.decode(request.page_token, listing)
        async with self._pool.acquire() as connection:
            found = await experiments.list_page(connection, state=state, before=before, limit=size + 1)
        page = found[:size]
        return pb.ListExperimentsResponse(
            experiments=[experiment_message(experiment) for experiment in page],
            next_page_token=self._tokens.encode(page[-1].number, listing) if len(found) > size else "",
        )

    async def UpdateExperiment(
        self, request: pb.UpdateExperimentRequest, _context: _Context
    ) -> pb.UpdateExperimentResponse:
        return await self._commands.update(request)

    async def StartExperiment(
        self, request: pb.StartExperimentRequest, _context: _Context
    ) -> pb.StartExperimentResponse:
        return await self._commands.start(request)

    async def PauseExperiment(
        self, request: pb.PauseExperimentRequest, _context: _Context
    ) -> pb.PauseExperimentResponse:
        return await self._commands.pause(request)

    async def CompleteExperiment(
        self, request: pb.CompleteExperimentRequest, _context: _Context
    ) -> pb.CompleteExperimentResponse:
        return await self._commands.complete(request)

    async def GetExperimentResults(
        self, request: pb.GetExperimentResultsRequest, _context: _Context
    ) -> pb.GetExperimentResultsResponse:
        return await experiment_results(self._pool, self._catalog, request, self._clock())

    async def ExplainAssignment(
        self, request: pb.ExplainAssignmentRequest, _context: _Context
    ) -> pb.ExplainAssignmentResponse:
        return await explain_assignment(self._pool, self._identity, request)


def _state(value: experiment_pb2.ExperimentState.ValueType) -> ExperimentState | None:
    if value == experiment_pb2.EXPERIMENT_STATE_UNSPECIFIED:
        return None
    try:
        return ExperimentState(experiment_pb2.ExperimentState.Name(value).removeprefix("EXPERIMENT_STATE_"))
    except ValueError as error:
        raise InvalidFieldError.of("state", "must be DRAFT, RUNNING, PAUSED or COMPLETED") from error
