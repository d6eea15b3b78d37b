"""Works on the jobs of the queue: trainings of clusters, and checks of eligibility.

Any worker takes any job. If a worker dies, another takes its job within a minute. Once a minute one of the workers
enqueues the jobs that are due.
"""

import asyncio
import uuid
from collections.abc import Coroutine
from contextlib import suppress
from datetime import timedelta
from typing import Any

import structlog
from pgqueuer import Job, PgQueuer, RetryRequested
from pgqueuer.models import Schedule

from server.tasks import end
from server.worker.eligibility_sweep import EligibilitySweep
from server.worker.training.cluster_trainer import ClusterTrainer
from storage.postgres import job_queue
from storage.postgres.pool import SCHEMA, Pool

log = structlog.get_logger()
_SCHEDULE = "look_what_is_due"  # PostgreSQL keeps it, so all releases must share the name
_EVERY_MINUTE = "* * * * *"
_RETRY_SECONDS = 1.0
_DEAD_AFTER = timedelta(seconds=10)  # without a sign of life from the worker that has taken a job
_JOBS_AT_A_TIME = 2
_STOP_SECONDS = 5.0


class Jobs:
    """The jobs of one worker."""

    def __init__(self, dsn: str, trainer: ClusterTrainer, sweep: EligibilitySweep) -> None:
        """`trainer` works on jobs of the kind `job_queue.TRAIN`, `sweep` on those of the kind `job_queue.CHECK`."""
        self._dsn = dsn
        self._trainer = trainer
        self._sweep = sweep
        self._running: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Work until cancelled, through outages of PostgreSQL."""
        while True:
            try:
                async with await job_queue.create_pool(self._dsn, SCHEMA) as pool:
                    await self._enqueue_due(pool)
                    await self._work(self._make_queuer(pool))
            except Exception as error:
                log.warning(f"jobs failed, trying again in {_RETRY_SECONDS:g} s", error=repr(error))
            await asyncio.sleep(_RETRY_SECONDS)

    def _make_queuer(self, pool: Pool) -> PgQueuer:
        queuer = PgQueuer.from_asyncpg_pool(pool)

        @queuer.entrypoint(job_queue.TRAIN)
        async def train(job: Job) -> None:
            await self._finish(self._trainer.train(uuid.UUID((job.payload or b"").decode())))

        @queuer.entrypoint(job_queue.CHECK)
        async def check(_job: Job) -> None:
            await self._finish(self._sweep.check_due())

        @queuer.schedule(_SCHEDULE, _EVERY_MINUTE)
        async def enqueue_due(_schedule: Schedule) -> None:
            await self._enqueue_due(pool)

        return queuer

    async def _finish(self, work: Coroutine[Any, Any, None]) -> None:
        """Finish a job. If this worker stops before, raise RetryRequested, so that another worker takes the job."""
        task = asyncio.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        try:
            await asyncio.wait({task})
        finally:
            await end(task)
        if task.cancelled():
            raise RetryRequested(timedelta(0), "this worker stops")
        task.result()

    async def _work(self, queuer: PgQueuer) -> None:
        """Work until cancelled. Then leave the jobs that have begun to other workers."""
        work = asyncio.create_task(
            queuer.run(batch_size=1, max_concurrent_tasks=_JOBS_AT_A_TIME, heartbeat_timeout=_DEAD_AFTER)
        )
        try:
            await asyncio.shield(work)
        finally:
            queuer.shutdown.set()
            await end(*self._running)
            with suppress(asyncio.CancelledError):  # this worker may be cancelled again meanwhile
                await asyncio.wait({work}, timeout=_STOP_SECONDS)
            await end(work)

    async def _enqueue_due(self, pool: Pool) -> None:
        try:
            for job_id in await self._trainer.request_due_trainings():
                await job_queue.enqueue(pool, job_queue.TRAIN, str(job_id))
        except Exception as error:  # experiments are checked all the same
            log.error("trainings not enqueued, trying again in a minute", error=repr(error))
        if await self._sweep.is_due():
            await job_queue.enqueue(pool, job_queue.CHECK, "all")
