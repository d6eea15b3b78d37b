"""Puts requested trainings into the job queue. Without it a worker would find them within a minute."""

import structlog

from storage.postgres import job_queue
from storage.postgres.pool import SCHEMA, Pool, close_pool
from storage.postgres.segmentation import trainings

log = structlog.get_logger()


class TrainingQueue:
    """The job queue of trainings; it connects when it is first needed."""

    def __init__(self, dsn: str, pool: Pool) -> None:
        self._dsn = dsn
        self._pool = pool
        self._queue: Pool | None = None

    async def enqueue_waiting(self, experiment_id: str) -> None:
        """Enqueue the training that an experiment waits for, if any.

        A failure is only logged: a worker finds the training by itself.
        """
        try:
            async with self._pool.acquire() as connection:
                job_id = await trainings.waiting(connection, experiment_id)
            if job_id is not None:
                if self._queue is None:
                    self._queue = await job_queue.create_pool(self._dsn, SCHEMA)
                await job_queue.enqueue(self._queue, job_queue.TRAIN, str(job_id))
        except Exception as error:
            log.warning("training not enqueued yet", experiment=experiment_id, error=repr(error))

    async def close(self) -> None:
        """Close the connections to the queue."""
        if self._queue is not None:
            await close_pool(self._queue)
