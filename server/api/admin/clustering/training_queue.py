"""Tells the workers of trainings that were asked for. They would find them by themselves, within a minute."""

import asyncpg
import structlog

from storage.postgres import job_queue
from storage.postgres.pool import SCHEMA, close_pool
from storage.postgres.segmentation import trainings

log = structlog.get_logger()


class Trainings:
    """Knows the queue."""

    def __init__(self, dsn: str, pool: asyncpg.Pool) -> None:
        """Connects to the queue when it is needed."""
        self._dsn = dsn
        self._pool = pool
        self._queue: asyncpg.Pool | None = None

    async def tell(self, experiment_id: str) -> None:
        """Put what is asked for an experiment into the queue. Only logged if it cannot be: it is not lost."""
        try:
            async with self._pool.acquire() as connection:
                job_id = await trainings.waiting(connection, experiment_id)
            if job_id is not None:
                if self._queue is None:
                    self._queue = await job_queue.create_pool(self._dsn, SCHEMA)
                await job_queue.enqueue(self._queue, job_queue.TRAIN, str(job_id))
        except Exception as error:
            log.warning("a training is not in the queue yet", experiment=experiment_id, error=repr(error))

    async def close(self) -> None:
        """Disconnect."""
        if self._queue is not None:
            await close_pool(self._queue)
