"""Keeps what fails for one experiment from stopping the others: it is logged, raises an alert, and the work goes on."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog

from allocator.errors import StoreUnavailableError
from server.alerts.updates import update_alert
from server.clock import Clock
from storage.postgres.experiments import experiments
from storage.postgres.operations import alerts
from storage.postgres.operations.alerts import AlertKind
from storage.postgres.pool import CONFLICT, LOCKED, UNREACHABLE, Connection
from storage.redis import client

log = structlog.get_logger()
_KIND = AlertKind.EXPERIMENT_FAILS
_OUTAGE = (*UNREACHABLE, *client.UNREACHABLE, StoreUnavailableError)
_TRANSIENT = (*CONFLICT, *LOCKED)  # may succeed if it is tried again, so no alert is worth it
_RELOAD_SECONDS = 60.0
_LOG_SECONDS = 60.0


def is_outage(error: Exception) -> bool:
    """Return whether an error is about a store that is out of reach, so that all experiments would fail alike."""
    return isinstance(error, _OUTAGE) and not isinstance(error, ValueError)  # asyncpg's own complaints about values


class Faults:
    """What fails for which experiments. `activity` says what Samplit cannot do, such as "publish its posterior"."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._failing: set[tuple[str, str]] = set()
        self._reload_at = 0.0
        self._log_from: dict[tuple[str, str], float] = {}

    @asynccontextmanager
    async def isolate(self, connection: Connection, experiment_id: str, activity: str) -> AsyncIterator[None]:
        """Run a block that works on one experiment. If it fails, raise an alert instead of the error.

        Errors that say that a store is out of reach are raised. The connection must not be in a transaction.
        """
        try:
            yield
        except Exception as error:
            if is_outage(error):
                raise
            await self.note_failure(connection, experiment_id, activity, error)
        else:
            await self.note_success(connection, experiment_id, activity)

    async def note_failure(self, connection: Connection, experiment_id: str, activity: str, error: Exception) -> None:
        """Log the error, at most once a minute, and raise the alert unless it is raised."""
        fault = experiment_id, activity
        now = time.monotonic()
        if now >= self._log_from.get(fault, 0.0):
            self._log_from[fault] = now + _LOG_SECONDS
            log.error(f"cannot {activity}, other experiments go on", experiment=experiment_id, error=repr(error))
        if fault in self._failing or isinstance(error, _TRANSIENT):
            return
        problem = f"Samplit cannot {activity} ({type(error).__name__}); the worker's log says why"
        if await self._update(connection, experiment_id, activity, problem):
            self._failing.add(fault)

    async def note_success(self, connection: Connection, experiment_id: str, activity: str) -> None:
        """Resolve the alert if it is raised. Alerts that other workers have raised are known within a minute."""
        if time.monotonic() >= self._reload_at:
            self._failing = await alerts.open_faults(connection, _KIND)
            self._reload_at = time.monotonic() + _RELOAD_SECONDS
        fault = experiment_id, activity
        if fault in self._failing and await self._update(connection, experiment_id, activity, None):
            self._failing.discard(fault)
            self._log_from.pop(fault, None)

    async def _update(self, connection: Connection, experiment_id: str, activity: str, problem: str | None) -> bool:
        """Raise or resolve the alert. Return whether that succeeded: what cannot be told is told the next time."""
        try:
            async with connection.transaction():
                experiment = await experiments.get(connection, experiment_id)
                if experiment is not None:
                    await update_alert(connection, experiment, _KIND, activity, problem, self._clock())
        except Exception as error:
            log.error("alert not updated", experiment=experiment_id, alert=_KIND.value, error=repr(error))
            return False
        return True
