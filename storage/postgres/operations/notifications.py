"""A transactional outbox of notices to people.

A notice is enqueued in the transaction that it tells of. Then it is addressed, admitted, and sent at least once.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

from storage.postgres import locks
from storage.postgres.pool import Connection

_NEW = """
    SELECT notification_no AS number, coalesce(owner, '') AS owner
    FROM pending_notifications LEFT JOIN experiments USING (experiment_no)
    WHERE recipient IS NULL ORDER BY notification_no LIMIT $1
"""
_COPY = """
    INSERT INTO notifications (experiment_no, kind, recipient, subject, body, created_at, next_attempt_at)
    SELECT experiment_no, kind, $2, subject, body, created_at, next_attempt_at
    FROM notifications WHERE notification_no = $1
"""
_DROP_OTHER_RECIPIENTS = """
    UPDATE notifications SET recipient = '', sent_at = $2 WHERE notification_no IN (
        SELECT notification_no FROM pending_notifications WHERE recipient <> ALL($1::text[]))
"""
# Admits as many due notices of an experiment and a recipient as the limit leaves free, and holds the others for an
# hour. While some are held, new ones are held too. A digest is always admitted, or it would be a line of the next one.
_ADMIT = """
    WITH due AS (
        SELECT notification_no, experiment_no, recipient, kind,
            row_number() OVER (PARTITION BY experiment_no, recipient ORDER BY notification_no) AS position
        FROM pending_notifications
        WHERE recipient <> '' AND admitted_at IS NULL AND held_until IS NULL AND next_attempt_at <= $1
    ), room AS (
        SELECT experiment_no, recipient, $2 - (
            SELECT count(*) FROM notifications n WHERE n.experiment_no IS NOT DISTINCT FROM d.experiment_no
                AND n.recipient = d.recipient AND n.admitted_at > $1 - $3::interval
        ) AS free, (
            SELECT min(held_until) FROM pending_notifications n
            WHERE n.experiment_no IS NOT DISTINCT FROM d.experiment_no AND n.recipient = d.recipient
        ) AS held_until
        FROM (SELECT DISTINCT experiment_no, recipient FROM due) d
    ), decided AS (
        SELECT notification_no, held_until,
            kind = 'DIGEST' OR room.held_until IS NULL AND position <= free AS admitted
        FROM due JOIN room ON room.experiment_no IS NOT DISTINCT FROM due.experiment_no
            AND room.recipient = due.recipient
    )
    UPDATE notifications n SET
        admitted_at = CASE WHEN admitted THEN $1::timestamptz END,
        held_until = CASE WHEN NOT admitted THEN coalesce(d.held_until, $1 + $3) END
    FROM decided d WHERE n.notification_no = d.notification_no
"""
_HELD = """
    SELECT experiment_no AS experiment_number, coalesce(experiment_id, '') AS experiment_id,
        coalesce(name, '') AS experiment_name, recipient,
        array_agg(notification_no ORDER BY notification_no) AS numbers,
        array_agg(subject ORDER BY notification_no) AS subjects
    FROM pending_notifications LEFT JOIN experiments USING (experiment_no)
    WHERE held_until <= $1 GROUP BY 1, 2, 3, 4
"""
_MERGE = """
    WITH digest AS (
        INSERT INTO notifications (experiment_no, kind, recipient, subject, body, created_at, next_attempt_at,
            admitted_at)
        VALUES ($1, 'DIGEST', $2, $3, $4, $6, $6, $6) RETURNING notification_no
    )
    UPDATE notifications n SET digest_no = digest.notification_no FROM digest
    WHERE n.notification_no = ANY($5::bigint[])
"""
_CLAIM = """
    UPDATE notifications n SET attempts = attempts + 1, next_attempt_at = $2 + $3::interval
    FROM (
        SELECT notification_no, experiment_no FROM pending_notifications
        WHERE recipient = $1 AND admitted_at IS NOT NULL AND next_attempt_at <= $2
        ORDER BY notification_no LIMIT $4 FOR UPDATE SKIP LOCKED
    ) due LEFT JOIN experiments e USING (experiment_no)
    WHERE n.notification_no = due.notification_no
    RETURNING n.notification_no AS number, n.experiment_no AS experiment_number, coalesce(owner, '') AS owner, subject,
        body, attempts
"""
_HOUR = timedelta(hours=1)


class Unaddressed(NamedTuple):
    """A notice without a recipient. `owner` is the experiment's, "" if there is none."""

    number: int
    owner: str


@dataclass(frozen=True)
class Held:
    """Notices of an experiment ("" without one) that are held, to be sent to a recipient as one."""

    experiment_number: int | None
    experiment_id: str
    experiment_name: str
    recipient: str
    numbers: list[int]
    subjects: list[str]


@dataclass(frozen=True)
class Claimed:
    """A notice to be sent now. `attempts` counts this one; `owner` is the experiment's."""

    number: int
    experiment_number: int | None
    owner: str
    subject: str
    body: str
    attempts: int


async def enqueue(
    connection: Connection, experiment_number: int | None, kind: str, subject: str, body: str, now: datetime
) -> None:
    """Store a notice, in the transaction that it tells of."""
    await connection.execute(
        """
        INSERT INTO notifications (experiment_no, kind, subject, body, created_at, next_attempt_at)
        VALUES ($1, $2, $3, $4, $5, $5)
        """,
        experiment_number,
        kind,
        subject,
        body,
        now,
    )


async def may_admit(connection: Connection) -> bool:
    """Return whether this worker alone may admit notices until the transaction ends."""
    return await locks.try_hold(connection, locks.NOTIFICATION_ADMISSION)


async def unaddressed(connection: Connection, limit: int) -> list[Unaddressed]:
    """Return the oldest notices without a recipient."""
    return [Unaddressed(**row) for row in await connection.fetch(_NEW, limit)]


async def owner(connection: Connection, experiment_number: int | None) -> str | None:
    """Return the owner of an experiment, None if there is no such experiment.

    The owner of a completed experiment is "", since nobody needs to be told anything more.
    """
    found: str | None = await connection.fetchval(
        "SELECT CASE state WHEN 'COMPLETED' THEN '' ELSE owner END FROM experiments WHERE experiment_no = $1",
        experiment_number,
    )
    return found


async def address(connection: Connection, recipients: Mapping[int, Sequence[str]], now: datetime) -> None:
    """Store the recipients of notices, by number: each gets a copy. A notice for nobody counts as sent."""
    copies: list[tuple[int, str]] = []
    addressed: list[tuple[int, str, datetime | None]] = []
    for number, names in recipients.items():
        if not names:
            addressed.append((number, "", now))
            continue
        first, *others = names
        addressed.append((number, first, None))
        copies += [(number, name) for name in others]
    await connection.executemany(_COPY, copies)
    await connection.executemany(
        "UPDATE notifications SET recipient = $2, sent_at = $3 WHERE notification_no = $1", addressed
    )


async def drop_other_recipients(connection: Connection, recipients: Sequence[str], now: datetime) -> None:
    """Give up the notices of all recipients but these: the others are not configured any more."""
    await connection.execute(_DROP_OTHER_RECIPIENTS, recipients, now)


async def admit(connection: Connection, most_an_hour: int, now: datetime) -> None:
    """Admit the notices that are due, up to the limit for each experiment and recipient, and hold the others."""
    await connection.execute(_ADMIT, now, most_an_hour, _HOUR)


async def held(connection: Connection, now: datetime) -> list[Held]:
    """Return the notices that have been held long enough, together for each experiment and recipient."""
    return [Held(**row) for row in await connection.fetch(_HELD, now)]


async def merge(connection: Connection, together: Held, subject: str, body: str, now: datetime) -> None:
    """Enqueue one notice in place of those that were held."""
    await connection.execute(
        _MERGE, together.experiment_number, together.recipient, subject, body, together.numbers, now
    )


async def claim(
    connection: Connection, recipient: str, *, limit: int, lease: timedelta, now: datetime
) -> list[Claimed]:
    """Take the oldest notices that are due. If a worker dies, its notices are due again when the lease ends."""
    rows = await connection.fetch(_CLAIM, recipient, now, lease, limit)
    return sorted((Claimed(**row) for row in rows), key=lambda claimed: claimed.number)


async def mark_sent(connection: Connection, number: int, now: datetime) -> None:
    """Mark a notice as sent."""
    await connection.execute(
        "UPDATE notifications SET sent_at = $2, error = '' WHERE notification_no = $1", number, now
    )


async def retry(connection: Connection, number: int, error: str, at: datetime) -> None:
    """Let a notice that could not be sent be tried again at a time. It counts towards the limit of that hour."""
    await connection.execute(
        "UPDATE notifications SET admitted_at = NULL, next_attempt_at = $3, error = $2 WHERE notification_no = $1",
        number,
        error,
        at,
    )


async def fail(connection: Connection, number: int, error: str, now: datetime) -> None:
    """Give up a notice that could not be sent."""
    await connection.execute(
        "UPDATE notifications SET admitted_at = NULL, failed_at = $3, error = $2 WHERE notification_no = $1",
        number,
        error,
        now,
    )
