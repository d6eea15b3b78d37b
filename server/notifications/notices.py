"""The texts of notices: plain text that a person understands who has never heard of a posterior.

What a notice is about is for its callers to say; who gets it, and how it is sent, is for `server.notifications.sender`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from allocator.experiment import Experiment
from storage.postgres.operations import notifications
from storage.postgres.pool import Connection

TEST_SUBJECT = "Samplit: a test"
TEST_BODY = "This is a test of Samplit's notices. Nothing is wrong, and you need to do nothing."
_MOST_SUBJECT = 200  # characters
_MOST_LISTED = 100  # subjects in one digest


class NoticeKind(Enum):
    """What people get notices of."""

    SEGMENTATION_ACTIVATED = "SEGMENTATION_ACTIVATED"
    SEGMENTATION_DEACTIVATED = "SEGMENTATION_DEACTIVATED"
    RECOMMENDATION_MADE = "RECOMMENDATION_MADE"
    ALERT_RAISED = "ALERT_RAISED"
    ALERT_RESOLVED = "ALERT_RESOLVED"


@dataclass(frozen=True)
class _Template:
    subject: str
    body: str


_TEMPLATES = {
    NoticeKind.SEGMENTATION_ACTIVATED: _Template(
        "{name}: Samplit has turned segmentation on",
        """
From now on Samplit chooses the best variant for each audience. Users are divided by {what}.

Expected lift: {expected}
Evidence: {evidence}
Traffic: {traffic}

Nobody's variant changes. Samplit still serves some users without audiences, so that it can measure the lift. If the \
lift vanishes, Samplit turns segmentation off again.

See the audiences: samplit segments {id}
Turn it off: samplit segmentation set {id} --off
""",
    ),
    NoticeKind.SEGMENTATION_DEACTIVATED: _Template(
        "{name}: Samplit has turned segmentation off",
        """
From now on Samplit chooses the best variant for all users together. Users are no longer divided by {what}. Nobody's \
variant changes.

Why: {why}
Measured: {measured}

See the results: samplit results {id}
""",
    ),
    NoticeKind.RECOMMENDATION_MADE: _Template(
        "{name}: Samplit has a recommendation",
        """
Samplit recommends: {what}

Why: {why}

Nothing changes until somebody accepts it. See it, and accept or dismiss it: samplit recommendations list {id}
""",
    ),
    NoticeKind.ALERT_RAISED: _Template(
        "{name}: {problem}",
        """
{name} needs attention: {problem}.

What to do: {next_step}

You get one notice when a problem begins, and one when it is over. The page "Alerts and notices" of Samplit's \
documentation explains every alert.

See the open alerts: samplit alerts list{argument}
""",
    ),
    NoticeKind.ALERT_RESOLVED: _Template(
        "{name}: resolved: {problem}",
        """
This problem of {name} is over, and you need to do nothing: {problem}.

See all alerts: samplit alerts list{argument} --all
""",
    ),
}
_DIGEST = """
There were too many notices within an hour to send each of them. These were kept for one message:

{subjects}

See the open alerts: samplit alerts list{argument}
"""


async def enqueue_notice(
    connection: Connection, experiment: Experiment | None, kind: NoticeKind, now: datetime, **fields: str
) -> None:
    """Store a notice to be sent if the caller's transaction commits. Without an experiment it is of the installation.

    fields: what, expected, evidence, traffic of SEGMENTATION_ACTIVATED; what, why, measured of
    SEGMENTATION_DEACTIVATED; what, why of RECOMMENDATION_MADE; problem, next_step of ALERT_RAISED; problem of
    ALERT_RESOLVED. A problem has no full stop, a next step has one unless it ends in a command. Raises KeyError if one
    is missing.
    """
    subject, body = render(experiment, kind, **fields)
    number = None if experiment is None else experiment.number
    await notifications.enqueue(connection, number, kind.value, subject, body, now)


def render(experiment: Experiment | None, kind: NoticeKind, **fields: str) -> tuple[str, str]:
    """Return the subject and the body of a notice. Raises KeyError if a field is missing."""
    template = _TEMPLATES[kind]
    name, experiment_id = ("Samplit", "") if experiment is None else (experiment.name, experiment.experiment_id)
    known = {"name": _on_one_line(name), "id": experiment_id, "argument": _argument(experiment_id)}
    subject = _on_one_line(template.subject.format(**known, **fields))
    return _shorten(subject), template.body.strip().format(**known, **fields)


def render_digest(name: str, experiment_id: str, subjects: Sequence[str]) -> tuple[str, str]:
    """Return the subject and the body of one notice in place of several.

    name, experiment_id: of the experiment; empty for notices of the installation. subjects: of the notices.
    """
    lines = [f"- {subject}" for subject in subjects[:_MOST_LISTED]]
    if len(subjects) > _MOST_LISTED:
        lines.append(f"- and {len(subjects) - _MOST_LISTED:,} more")
    body = _DIGEST.strip().format(subjects="\n".join(lines), argument=_argument(experiment_id))
    count = "1 notice" if len(subjects) == 1 else f"{len(subjects):,} notices"
    return _shorten(f"{_on_one_line(name) or 'Samplit'}: {count} of the last hour"), body


def _argument(experiment_id: str) -> str:
    return f" {experiment_id}" if experiment_id else ""


def _on_one_line(text: str) -> str:
    return " ".join(text.split())


def _shorten(subject: str) -> str:
    return subject if len(subject) <= _MOST_SUBJECT else subject[: _MOST_SUBJECT - 1] + "…"
