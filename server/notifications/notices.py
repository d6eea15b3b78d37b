"""What notices say: plain text that a person understands who has never seen a posterior."""

from collections.abc import Sequence
from datetime import datetime
from enum import Enum

from allocator.experiment import Experiment
from storage.postgres.operations import notifications
from storage.postgres.pool import Connection

TEST = "Samplit: a test", "This is how notices of Samplit arrive. Nothing is wrong, and nothing is left to do."
_MOST_SUBJECT = 200
_MOST_LISTED = 100


class NoticeKind(Enum):
    """What people are told of."""

    SEGMENTATION_ACTIVATED = "SEGMENTATION_ACTIVATED"
    SEGMENTATION_DEACTIVATED = "SEGMENTATION_DEACTIVATED"
    RECOMMENDATION_MADE = "RECOMMENDATION_MADE"
    ALERT_RAISED = "ALERT_RAISED"
    ALERT_RESOLVED = "ALERT_RESOLVED"


# Subject, and body.
_TEMPLATES = {
    NoticeKind.SEGMENTATION_ACTIVATED: (
        "{name}: segmentation has turned itself on",
        """
From now on each audience gets what works best for it: users are divided by {what}.

Expected gain: {expected}
Evidence: {evidence}
Traffic: {traffic}

Nobody's variant changes. Some users go on being served without audiences, so that the gain is measured; should it \
vanish, segmentation turns itself off again.

See the audiences: samplit segments {id}
Turn it off: samplit segmentation set {id} --off
""",
    ),
    NoticeKind.SEGMENTATION_DEACTIVATED: (
        "{name}: segmentation has turned itself off",
        """
Users are not divided by {what} any more: all get what works best for everyone. Nobody's variant changes.

Why: {why}
Measured: {measured}

See the results: samplit results {id}
""",
    ),
    NoticeKind.RECOMMENDATION_MADE: (
        "{name}: Samplit has a recommendation",
        """
Samplit recommends: {what}

Why: {why}

Nothing changes until somebody decides. See it: samplit recommendations list {id}
""",
    ),
    NoticeKind.ALERT_RAISED: (
        "{name}: {problem}",
        """
{name} needs a look: {problem}.

You hear of this once, and again when it is over. What it means and what to do is in Samplit's documentation, under \
alerts.

See what is open: samplit alerts list{argument}
""",
    ),
    NoticeKind.ALERT_RESOLVED: (
        "{name}: over: {problem}",
        """
This is over for {name}, and nothing is left to do: {problem}.

See all alerts: samplit alerts list{argument} --all
""",
    ),
}
_DIGEST = """
So many notices came within an hour that these were kept for one message.

{subjects}

See what is open: samplit alerts list{argument}
"""


async def post(
    connection: Connection, experiment: Experiment | None, kind: NoticeKind, now: datetime, **fields: str
) -> None:
    """Have people told, if the transaction commits. Without an experiment it is about the installation.

    The fields: SEGMENTATION_ACTIVATED what, expected, evidence, traffic; SEGMENTATION_DEACTIVATED what, why, measured;
    RECOMMENDATION_MADE what, why; ALERT_RAISED and ALERT_RESOLVED problem, without a full stop.
    """
    subject, body = render(experiment, kind, **fields)
    number = None if experiment is None else experiment.number
    await notifications.enqueue(connection, number, kind.value, subject, body, now)


def render(experiment: Experiment | None, kind: NoticeKind, **fields: str) -> tuple[str, str]:
    """Subject and body."""
    subject, body = _TEMPLATES[kind]
    name, experiment_id = ("Samplit", "") if experiment is None else (experiment.name, experiment.experiment_id)
    known = {"name": _line(name), "id": experiment_id, "argument": _argument(experiment_id)}
    return _short(_line(subject.format(**known, **fields))), body.strip().format(**known, **fields)


def digest(name: str, experiment_id: str, subjects: Sequence[str]) -> tuple[str, str]:
    """Subject and body of one notice in place of several; empty name and id are the installation's."""
    lines = [f"- {subject}" for subject in subjects[:_MOST_LISTED]]
    if len(subjects) > _MOST_LISTED:
        lines.append(f"- and {len(subjects) - _MOST_LISTED:,} more")
    body = _DIGEST.strip().format(subjects="\n".join(lines), argument=_argument(experiment_id))
    many = "a notice" if len(subjects) == 1 else f"{len(subjects):,} notices"
    return _short(f"{_line(name) or 'Samplit'}: {many} of the last hour"), body


def _argument(experiment_id: str) -> str:
    return f" {experiment_id}" if experiment_id else ""


def _line(text: str) -> str:
    """On one line."""
    return " ".join(text.split())


def _short(subject: str) -> str:
    return subject if len(subject) <= _MOST_SUBJECT else subject[: _MOST_SUBJECT - 1] + "…"
