"""Looks at every running experiment, a few times a day."""

from datetime import timedelta

import structlog

from server.clock import Clock
from server.recommendations.checker import Checker
from storage.postgres.counts import dimensions
from storage.postgres.pool import UNREACHABLE, Pool
from storage.postgres.segmentation import recommendations, serving_state

log = structlog.get_logger()
_EVERY = timedelta(hours=6)
_AT_A_TIME = 100


class EligibilitySweep:
    """A job that goes on where one that was broken off left."""

    def __init__(self, pool: Pool, checker: Checker, clock: Clock) -> None:
        """Holds no state of its own."""
        self._pool = pool
        self._checker = checker
        self._clock = clock

    async def is_due(self) -> bool:
        """Whether an experiment was not looked at for six hours."""
        return bool(await self._due(1))

    async def __call__(self) -> None:
        """Check all that are due. What fails waits for six hours more, unless Postgres is out of reach."""
        async with self._pool.acquire() as connection:
            await dimensions.forget(connection, self._clock())
            await recommendations.expire(connection, self._clock())
        while found := await self._due(_AT_A_TIME):
            for experiment_id in found:
                try:
                    await self._checker.check(experiment_id)
                except UNREACHABLE:
                    raise
                except Exception as error:
                    log.error("check failed", experiment=experiment_id, error=repr(error))
                    await self._pass_over(experiment_id)

    async def _due(self, limit: int) -> list[str]:
        async with self._pool.acquire() as connection:
            return await serving_state.due(connection, self._clock() - _EVERY, limit)

    async def _pass_over(self, experiment_id: str) -> None:
        async with self._pool.acquire() as connection:
            await serving_state.note_check(connection, experiment_id, self._clock())
