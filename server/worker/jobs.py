"""Jobs of the queue, which any worker takes: one that dies is followed by another within a minute.

Once a minute one of the workers looks what is due.
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
_EVERY_MINUTE = "* * * * *"
_RETRY_SECONDS = 1.0
_DEAD_AFTER = timedelta(seconds=10)  # without a sign of life from who works on a job
_AT_A_TIME = 2
_STOP_SECONDS = 5.0


class Jobs:
    """One worker's part."""

    def __init__(self, dsn: str, trainer: ClusterTrainer, sweep: EligibilitySweep) -> None:
        """`trainer` does the jobs that queue.TRAIN names, `sweep` that of queue.CHECK."""
        self._dsn = dsn
        self._trainer = trainer
        self._sweep = sweep
        self._begun: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Work until cancelled, through outages of Postgres."""
        while True:
            try:
                async with await job_queue.create_pool(self._dsn, SCHEMA) as pool:
                    await self._enqueue_due(pool)
                    await self._work(self._queuer(pool))
            except Exception as error:
                log.warning("jobs interrupted", error=repr(error))
            await asyncio.sleep(_RETRY_SECONDS)

    def _queuer(self, pool: Pool) -> PgQueuer:
        queuer = PgQueuer.from_asyncpg_pool(pool)

        @queuer.entrypoint(job_queue.TRAIN)
        async def train(job: Job) -> None:
            await self._do(self._trainer(uuid.UUID((job.payload or b"").decode())))

        @queuer.entrypoint(job_queue.CHECK)
        async def check(_job: Job) -> None:
            await self._do(self._sweep())

        @queuer.schedule("look_what_is_due", _EVERY_MINUTE)
        async def look(_schedule: Schedule) -> None:
            await self._enqueue_due(pool)

        return queuer

    async def _do(self, work: Coroutine[Any, Any, None]) -> None:
        """Do it, or leave it to another worker if this one stops."""
        task = asyncio.create_task(work)
        self._begun.add(task)
        task.add_done_callback(self._begun.discard)
        try:
            await asyncio.wait({task})
        finally:
            await end(task)
        if task.cancelled():
            raise RetryRequested(timedelta(0), "this worker stops")
        task.result()

    async def _work(self, queuer: PgQueuer) -> None:
        """Work until cancelled; then leave what is begun to others."""
        work = asyncio.create_task(
            queuer.run(batch_size=1, max_concurrent_tasks=_AT_A_TIME, heartbeat_timeout=_DEAD_AFTER)
        )
        try:
            await asyncio.shield(work)
        finally:
            queuer.shutdown.set()
            await end(*self._begun)
            with suppress(asyncio.CancelledError):  # of us, once more
                await asyncio.wait({work}, timeout=_STOP_SECONDS)
            await end(work)

    async def _enqueue_due(self, pool: Pool) -> None:
        for job_id in await self._trainer.due():
            await job_queue.enqueue(pool, job_queue.TRAIN, str(job_id))
        if await self._sweep.is_due():
            await job_queue.enqueue(pool, job_queue.CHECK, "all")
