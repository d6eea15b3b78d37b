"""ClusteringService: converts and delegates."""

from dataclasses import replace
from typing import Any, TypeAlias

import grpc
from samplit.admin.v1 import clustering_service_pb2 as pb
from samplit.admin.v1 import clustering_service_pb2_grpc as pb_grpc

from allocator.errors import ClusterModelUnreadableError
from allocator.experiment import Experiment
from server.api.admin.clustering.commands import ClusteringCommands
from server.api.admin.clustering.messages import drift_message, evidence_message, job_message, model_message, summary
from server.api.admin.page_tokens import PageTokens, page_size
from server.api.admin.reads import read_experiment
from server.clock import Clock
from server.recommendations.findings import read_segment_evidence
from storage.encryption import Secrets
from storage.postgres.counts.drift import recent_drift
from storage.postgres.pool import Connection, Pool, snapshot
from storage.postgres.segmentation import cluster_models, segmentations, trainings

_Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"  # generic in the stubs only


class ClusteringServicer(pb_grpc.ClusteringServiceServicer):
    """Trains, lists and activates cluster models."""

    def __init__(
        self, pool: Pool, commands: ClusteringCommands, secrets: Secrets, clock: Clock, tokens: PageTokens
    ) -> None:
        self._tokens = tokens
        self._pool = pool
        self._commands = commands
        self._secrets = secrets
        self._clock = clock

    async def TrainClusterModel(
        self, request: pb.TrainClusterModelRequest, _context: _Context
    ) -> pb.TrainClusterModelResponse:
        return await self._commands.train(request.experiment_id)

    async def ActivateClusterModel(
        self, request: pb.ActivateClusterModelRequest, _context: _Context
    ) -> pb.ActivateClusterModelResponse:
        return await self._commands.activate(request)

    async def RenameCluster(self, request: pb.RenameClusterRequest, _context: _Context) -> pb.RenameClusterResponse:
        return await self._commands.rename(request)

    async def ListClusterModels(
        self, request: pb.ListClusterModelsRequest, _context: _Context
    ) -> pb.ListClusterModelsResponse:
        size = page_size(request.page_size)
        listing = f"models/{request.experiment_id}"
        before = self._tokens.decode(request.page_token, listing)
        async with self._pool.acquire() as connection:
            experiment = await read_experiment(connection, request.experiment_id)
            found = await cluster_models.models(connection, experiment.number, before=before, limit=size + 1)
            names = await cluster_models.names(connection, experiment.number)
        more = self._tokens.encode(found[size - 1].version, listing) if len(found) > size else ""
        return pb.ListClusterModelsResponse(
            models=[model_message(model, names) for model in found[:size]], next_page_token=more
        )

    async def GetClusteringStatus(
        self, request: pb.GetClusteringStatusRequest, _context: _Context
    ) -> pb.GetClusteringStatusResponse:
        response = pb.GetClusteringStatusResponse()
        async with self._pool.acquire() as connection, snapshot(connection):
            experiment = await read_experiment(connection, request.experiment_id)
            pending = await segmentations.pending(connection, experiment.number)
            job = await trainings.latest(connection, experiment.number)
            response.assignments = await trainings.count_assignments(connection, experiment.number)
            model = evidence = None
            version = experiment.segmentation.model_version
            if version is not None:
                (model,) = await cluster_models.models(connection, experiment.number, version=version)
                try:
                    await self._add_drift(connection, experiment, version, response)
                except ClusterModelUnreadableError as error:
                    model = replace(model, problem=error.message)
                response.model.CopyFrom(model_message(model, await cluster_models.names(connection, experiment.number)))
                evidence = await read_segment_evidence(connection, experiment, self._clock())
                response.evidence.CopyFrom(evidence_message(evidence))
        if job is not None:
            response.job.CopyFrom(job_message(job))
        wanted = experiment.segmentation.mode if pending is None else pending.mode
        response.summary = summary(wanted, job, model, evidence, response.assignments)
        return response

    async def _add_drift(
        self,
        connection: Connection,
        experiment: Experiment,
        version: int,
        response: pb.GetClusteringStatusResponse,
    ) -> None:
        """Add how recent users differ from those of the training. Raises ClusterModelUnreadableError."""
        found = await recent_drift(connection, self._secrets, experiment.number, version, self._clock())
        if found is not None:
            response.drift.CopyFrom(drift_message(*found))
