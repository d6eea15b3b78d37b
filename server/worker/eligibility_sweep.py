"""Checks every running experiment once in six hours."""

from datetime import timedelta

from server.alerts.faults import Faults, is_outage
from server.clock import Clock
from server.recommendations.checker import Checker
from storage.postgres.counts import dimensions
from storage.postgres.pool import Pool
from storage.postgres.segmentation import recommendations, serving_state

_CHECKED_EVERY = timedelta(hours=6)
_AT_A_TIME = 100
_ACTIVITY = "check whether to segment it"


class EligibilitySweep:
    """The job that checks experiments. One that was interrupted is continued by the next one."""

    def __init__(self, pool: Pool, checker: Checker, clock: Clock, faults: Faults) -> None:
        self._faults = faults
        self._pool = pool
        self._checker = checker
        self._clock = clock

    async def is_due(self) -> bool:
        """Return whether there is an experiment that was not checked in the last six hours."""
        return bool(await self._due(1))

    async def check_due(self) -> None:
        """Check all experiments that are due, and drop what is too old to be kept.

        An experiment whose check fails is due again in six hours. Raises what `UNREACHABLE` names if PostgreSQL is out
        of reach.
        """
        async with self._pool.acquire() as connection:
            await dimensions.forget(connection, self._clock())
            await recommendations.expire(connection, self._clock())
        while due := await self._due(_AT_A_TIME):
            for experiment_id in due:
                try:
                    await self._checker.check(experiment_id)
                except Exception as error:
                    if is_outage(error):
                        raise
                    await self._postpone(experiment_id, error)
                else:
                    async with self._pool.acquire() as connection:
                        await self._faults.note_success(connection, experiment_id, _ACTIVITY)

    async def _due(self, limit: int) -> list[str]:
        async with self._pool.acquire() as connection:
            return await serving_state.due(connection, self._clock() - _CHECKED_EVERY, limit)

    async def _postpone(self, experiment_id: str, error: Exception) -> None:
        async with self._pool.acquire() as connection:
            await self._faults.note_failure(connection, experiment_id, _ACTIVITY, error)
            await serving_state.note_check(connection, experiment_id, self._clock())
