"""The writes of ClusteringService: train, activate a model, rename a cluster."""

from samplit.admin.v1 import clustering_service_pb2 as pb

from allocator.clusters import MIN_ASSIGNMENTS
from allocator.errors import (
    ClusterModelNotFoundError,
    ClusterNameTakenError,
    ClusterNotFoundError,
    ExperimentStateError,
    TooFewAssignmentsError,
)
from allocator.experiment import Experiment, ExperimentState, SegmentationMode
from allocator.segments import cluster_key, parse_cluster_key
from server.api.admin.audit.records import changes
from server.api.admin.clustering.messages import job_message, model_message
from server.api.admin.clustering.training_queue import TrainingQueue
from server.api.admin.writes import Writes, locked_experiment
from server.api.authentication import caller
from server.api.fields import Fields
from server.clock import Clock
from storage.encryption import Secrets
from storage.postgres.experiments import experiments
from storage.postgres.operations import audit
from storage.postgres.pool import Connection, Pool
from storage.postgres.segmentation import cluster_models, segmentations, trainings

_MOST_NAME = 40


class ClusteringCommands:
    """Trains, activates and renames."""

    def __init__(
        self, pool: Pool, writes: Writes, training_queue: TrainingQueue, secrets: Secrets, clock: Clock
    ) -> None:
        self._pool = pool
        self._writes = writes
        self._training_queue = training_queue
        self._secrets = secrets
        self._clock = clock

    async def train(self, experiment_id: str) -> pb.TrainClusterModelResponse:
        """Request a training. Raises ExperimentNotFoundError, TooFewAssignmentsError."""
        async with self._pool.acquire() as connection, connection.transaction():
            experiment = await locked_experiment(connection, experiment_id, "")
            count = await trainings.count_assignments(connection, experiment.number)
            if count < MIN_ASSIGNMENTS:
                raise TooFewAssignmentsError(
                    f"experiment {experiment_id!r} has {count:,} assignments: {MIN_ASSIGNMENTS:,} are needed",
                    experiment_id=experiment_id,
                    assignments=str(count),
                    needed=str(MIN_ASSIGNMENTS),
                )
            now = self._clock()
            job, is_new = await trainings.request(connection, experiment.number, caller.get(), now)
            if is_new:
                made = {"job_id": str(job.job_id)}
                await audit.record(connection, experiment.number, caller.get(), "clusters.train", {}, made, now)
        await self._training_queue.enqueue_waiting(experiment_id)
        return pb.TrainClusterModelResponse(job=job_message(job))

    async def activate(self, request: pb.ActivateClusterModelRequest) -> pb.ActivateClusterModelResponse:
        """Segment the experiment by a model.

        Raises ClusterModelNotFoundError, ClusterModelUnreadableError, ExperimentStateError, StaleEtagError.
        """

        async def change(connection: Connection) -> tuple[Experiment, pb.ActivateClusterModelResponse]:
            before = await locked_experiment(connection, request.experiment_id, request.etag)
            model = await find_model(connection, before, request.model_version)
            if before.state is ExperimentState.COMPLETED:
                raise ExperimentStateError(
                    f"experiment {before.experiment_id!r} is COMPLETED: everyone gets the winner",
                    experiment_id=before.experiment_id,
                    state=before.state.value,
                )
            await cluster_models.load(connection, self._secrets, before.number, model.version)
            await cluster_models.refuse(connection, before.number, model.version, "")
            await trainings.let_stay(connection, before.number)
            pending = await segmentations.pending(connection, before.number)
            version = await self._prepare(connection, before, pending, model.version)
            coming = before.segmentation if pending is None else pending
            was = {"mode": coming.mode.value, "model_version": coming.model_version}
            wanted = {"mode": SegmentationMode.AUTO.value, "model_version": model.version}
            now = self._clock()
            difference = changes(was, wanted)
            await audit.record(connection, before.number, caller.get(), "clusters.activate", *difference, now)
            names = await cluster_models.names(connection, before.number)
            after = await experiments.touch(connection, before, now)
            message = pb.ActivateClusterModelResponse(model=model_message(model, names), segmentation_version=version)
            return after, message

        return await self._writes(request, change, pb.ActivateClusterModelResponse)

    async def _prepare(
        self,
        connection: Connection,
        experiment: Experiment,
        pending: segmentations.PendingSegmentation | None,
        model_version: int,
    ) -> int:
        """Return the segmentation version with the model. Prepare one unless it serves or is being prepared already."""
        wanted = SegmentationMode.AUTO, model_version
        if pending is not None and (pending.mode, pending.model_version) == wanted:
            return pending.version
        serving = experiment.segmentation
        if (serving.mode, serving.model_version) == wanted:
            await segmentations.abandon(connection, experiment.number)
            return experiment.segmentation_version
        return await segmentations.prepare(
            connection, experiment.number, SegmentationMode.AUTO, (), caller.get(), self._clock(), model_version
        )

    async def rename(self, request: pb.RenameClusterRequest) -> pb.RenameClusterResponse:
        """Rename a cluster. Raises ClusterNotFoundError, ClusterNameTakenError, StaleEtagError."""
        fields = Fields()
        name = fields.name("name", request.name.strip(), most=_MOST_NAME)
        fields.check()

        async def change(connection: Connection) -> tuple[Experiment, pb.RenameClusterResponse]:
            before = await locked_experiment(connection, request.experiment_id, request.etag)
            number = parse_cluster_key(request.segment_key)
            known = await cluster_models.names(connection, before.number)
            if number is None or number not in known:
                raise ClusterNotFoundError(
                    f"experiment {before.experiment_id!r} has no cluster {request.segment_key[:70]!r}",
                    experiment_id=before.experiment_id,
                )
            if not await cluster_models.rename(connection, before.number, number, name or None):
                raise ClusterNameTakenError(f"another cluster is called {name!r}", experiment_id=before.experiment_id)
            now = self._clock()
            named = (await cluster_models.names(connection, before.number))[number]
            key = cluster_key(number)
            difference = {key: known[number].name}, {key: named.name}
            await audit.record(connection, before.number, caller.get(), "clusters.rename", *difference, now)
            after = await experiments.touch(connection, before, now)
            cluster = pb.Cluster(segment_key=key, name=named.name, renamed=named.is_given)
            return after, pb.RenameClusterResponse(cluster=cluster)

        return await self._writes(request, change, pb.RenameClusterResponse)


async def find_model(connection: Connection, experiment: Experiment, version: int) -> cluster_models.StoredModel:
    """Return a model of an experiment. Raises InvalidFieldError, ClusterModelNotFoundError."""
    fields = Fields()
    if version < 1:
        fields.wrong("model_version", f"must be 1 or more, is {version}")
    fields.check()
    for model in await cluster_models.models(connection, experiment.number, version=version):
        return model
    raise ClusterModelNotFoundError(
        f"experiment {experiment.experiment_id!r} has no cluster model {version}",
        experiment_id=experiment.experiment_id,
    )
