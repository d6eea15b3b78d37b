"""Updates of alerts: each is raised and resolved once, and people get one notice of either."""

from collections.abc import Mapping
from datetime import datetime

from allocator.experiment import Experiment
from server.notifications.notices import NoticeKind, enqueue_notice
from storage.postgres.operations import alerts
from storage.postgres.operations.alerts import AlertKind
from storage.postgres.pool import Connection

_NEXT_STEPS: Mapping[AlertKind, str] = {
    AlertKind.SEGMENT_UNDERPERFORMS: (
        "Look at what these users see: a page may be broken on one device, or a campaign may promise something else. "
        "Compare the segments: samplit segments {id}"
    ),
    AlertKind.CLUSTER_MODEL_OLD: "Find out why no training has succeeded: samplit clusters status {id}",
    AlertKind.SAMPLE_RATIO_MISMATCH: (
        "Do not trust the results until you know the cause: users may be lost between Samplit's answer and the page, "
        "rows may have been changed by hand, or events may have been set aside."
    ),
    AlertKind.DRAIN_LAG: "Check that a worker and PostgreSQL are running. No event is lost.",
    AlertKind.BOT_SURGE: (
        "Block these bots at the edge if they cost you something. Samplit neither counts them nor learns from them."
    ),
    AlertKind.CONVERSIONS_STOPPED: (
        "Check that the page still sends conversions, under the name of the primary metric."
    ),
    AlertKind.AUTO_ACTIVATION_FAILED: "See how far the segmentation has come: samplit explain {id}",
    AlertKind.EXPERIMENT_FAILS: (
        "Samplit tries again, and works on the other experiments. Look for {id} in the worker's log: it has the error."
    ),
    AlertKind.VOLATILE_REDIS: "Set appendonly to yes in the configuration of Redis.",
    AlertKind.NOTIFICATION_FAILED: "Test the notification URLs: samplit notify-test",
}


async def update_alert(
    connection: Connection,
    experiment: Experiment | None,
    kind: AlertKind,
    key: str,
    problem: str | None,
    now: datetime,
) -> None:
    """Raise an alert if there is a problem and it is not raised yet; resolve it if there is none any more.

    A notice of either is enqueued in the caller's transaction. Without an experiment the alert is about the
    installation. key: tells alerts of one kind and experiment apart. problem: a sentence without its full stop.
    """
    number = None if experiment is None else experiment.number
    if problem is None:
        summary = await alerts.resolve(connection, number, kind, key, now)
        if summary is not None:
            await enqueue_notice(connection, experiment, NoticeKind.ALERT_RESOLVED, now, problem=summary)
    elif await alerts.report(connection, number, kind, key, problem, now):
        next_step = _NEXT_STEPS[kind].format(id="" if experiment is None else experiment.experiment_id)
        await enqueue_notice(connection, experiment, NoticeKind.ALERT_RAISED, now, problem=problem, next_step=next_step)
