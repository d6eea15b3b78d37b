"""Trains cluster models: it reads contexts from PostgreSQL, has a model trained, and stores the model with its names.

An experiment in mode AUTO then moves to the new model.
"""

import uuid

import structlog

from allocator.clusters import MIN_ASSIGNMENTS, ClusterModel, Training
from allocator.errors import ClusterModelUnreadableError
from allocator.experiment import Experiment, SegmentationMode
from server.alerts.faults import is_outage
from server.clock import Clock
from server.worker.training.process import TrainingFailedError, train_in_process
from storage.encryption import Secrets
from storage.postgres.experiments import experiments
from storage.postgres.operations import audit
from storage.postgres.pool import Connection, Pool
from storage.postgres.segmentation import cluster_models, segmentations, trainings

log = structlog.get_logger()
MOST_CONTEXTS = 100_000
_CHUNK = 5_000


class ClusterTrainer:
    """Trains the cluster models of all experiments, one job at a time."""

    def __init__(self, pool: Pool, secrets: Secrets, clock: Clock) -> None:
        self._pool = pool
        self._secrets = secrets
        self._clock = clock

    async def train(self, job_id: uuid.UUID) -> None:
        """Work on a training job. If no model can be trained, the reason is stored with the job.

        Does nothing if the job is done already.
        """
        async with self._pool.acquire() as connection:
            experiment_id = await trainings.begin(connection, job_id, self._clock())
            experiment = await experiments.get(connection, experiment_id) if experiment_id else None
            if experiment is None:
                return
            try:
                training = await self._train_model(connection, job_id, experiment)
                await self._store(connection, job_id, experiment, training)
            except TrainingFailedError as error:
                log.warning("clusters not trained", experiment=experiment_id, reason=str(error))
                await trainings.fail(connection, job_id, str(error), self._clock())

    async def request_due_trainings(self) -> list[uuid.UUID]:
        """Request a training where a model is old, or where there are many more users than it was trained on.

        Returns all jobs that are not done, whoever has requested them.
        """
        async with self._pool.acquire() as connection:
            for number in await trainings.due(connection, MIN_ASSIGNMENTS, self._clock()):
                try:
                    await trainings.request(connection, number, audit.SAMPLIT, self._clock())
                except Exception as error:  # of one experiment; the others are trained
                    if is_outage(error):
                        raise
                    log.error("training not requested", experiment_number=number, error=repr(error))
            return await trainings.under_way(connection)

    async def _train_model(self, connection: Connection, job_id: uuid.UUID, experiment: Experiment) -> Training:
        contexts: list[str] = []
        async for chunk in trainings.contexts(connection, experiment.number, MOST_CONTEXTS, _CHUNK):
            contexts += chunk

        async def progress(stage: str, share: float) -> None:
            await trainings.advance(connection, job_id, stage, share)

        return await train_in_process(
            contexts,
            max_clusters=experiment.segmentation.max_clusters,
            previous=await self._previous(connection, experiment),
            next_number=await cluster_models.next_number(connection, experiment.number),
            progress=progress,
        )

    async def _previous(self, connection: Connection, experiment: Experiment) -> ClusterModel | None:
        """Return the model whose clusters keep their names: the one that serves, or the newest that can be read."""
        serving = experiment.segmentation.model_version
        versions = await cluster_models.usable(connection, experiment.number)
        for version in sorted(versions, key=lambda version: version != serving):
            try:
                return await cluster_models.load(connection, self._secrets, experiment.number, version)
            except ClusterModelUnreadableError as error:
                await cluster_models.refuse(connection, experiment.number, version, error.message)
        return None

    async def _store(
        self, connection: Connection, job_id: uuid.UUID, experiment: Experiment, training: Training
    ) -> None:
        now = self._clock()
        async with connection.transaction():
            before = await experiments.get(connection, experiment.experiment_id, lock=True)
            to_serve = await trainings.will_serve(connection, job_id)
            if before is None or to_serve is None:
                return  # another worker has finished the job, because it took this worker for dead
            count = await trainings.count_assignments(connection, experiment.number)
            version = await cluster_models.insert(connection, self._secrets, experiment, training, count, now)
            await trainings.succeed(connection, job_id, version, now)
            made = {"model_version": version, "clusters": len(training.sizes)}
            await audit.record(connection, experiment.number, audit.SAMPLIT, "clusters.trained", {}, made, now)
            pending = await segmentations.pending(connection, experiment.number)
            wanted = before.segmentation.mode if pending is None else pending.mode
            if to_serve and wanted is SegmentationMode.AUTO:
                actor, origin = (audit.SAMPLIT, None) if pending is None else (pending.actor, pending.origin)
                await segmentations.prepare(connection, experiment.number, wanted, (), actor, now, version, origin)
            await experiments.move_revision(
                connection, experiment.number, now
            )  # the names of clusters are published with the configuration
        log.info("clusters trained", experiment=experiment.experiment_id, model=version, clusters=len(training.sizes))
