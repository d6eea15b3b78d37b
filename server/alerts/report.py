"""Raises and resolves alerts, and has people told."""

from datetime import datetime

from allocator.experiment import Experiment
from server.notifications import notices
from server.notifications.notices import NoticeKind
from storage.postgres.operations import alerts
from storage.postgres.operations.alerts import AlertKind
from storage.postgres.pool import Connection


async def report(
    connection: Connection,
    experiment: Experiment | None,
    kind: AlertKind,
    key: str,
    problem: str | None,
    now: datetime,
) -> None:
    """Raise an alert where there is a problem, resolve it where there is none, and post a notice of either once.

    Call it in a transaction. `problem` is a sentence without its full stop. Without an experiment the alert is the
    installation's.
    """
    number = None if experiment is None else experiment.number
    if problem is None:
        summary = await alerts.resolve(connection, number, kind, key, now)
        if summary is not None:
            await notices.post(connection, experiment, NoticeKind.ALERT_RESOLVED, now, problem=summary)
    elif await alerts.report(connection, number, kind, key, problem, now):
        await notices.post(connection, experiment, NoticeKind.ALERT_RAISED, now, problem=problem)
