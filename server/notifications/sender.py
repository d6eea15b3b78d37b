"""Sends the notices of the outbox: each at least once, and at most 20 an hour of one experiment to one recipient.

What a recipient may not get yet is held, and merged into one digest. The texts are `server.notifications.notices`'.
"""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from functools import partial

import structlog

from server.clock import Clock
from server.notifications.delivery import Letter, deliver
from server.notifications.notices import TEST_BODY, TEST_SUBJECT, render_digest
from server.notifications.recipients import OWNER, Recipients, describe_recipient
from server.tasks import repeat, run_together
from storage.postgres.operations import alerts, notifications
from storage.postgres.operations.alerts import AlertKind
from storage.postgres.operations.notifications import Claimed
from storage.postgres.pool import Connection, Pool

log = structlog.get_logger()
MOST_AN_HOUR = 20  # of one experiment, to one recipient
RETRY_PAUSES = tuple(timedelta(minutes=minutes) for minutes in (1, 5, 30, 120, 240, 480, 960))
SEND_SECONDS = 30.0
_INTERVAL_SECONDS = 1.0
_AT_A_TIME = 10
_ADDRESSED_AT_A_TIME = 500
_LEASE = timedelta(minutes=15)  # longer than sending as many letters as are claimed at a time can take


class Sender:
    """One worker's sender. It decides what may be sent, and sends to each recipient independently."""

    def __init__(self, pool: Pool, recipients: Recipients, clock: Clock, send_seconds: float = SEND_SECONDS) -> None:
        """Send to these recipients. `send_seconds` is how long each may take for one notice."""
        self._pool = pool
        self._recipients = recipients
        self._clock = clock
        self._send_seconds = send_seconds

    async def run(self) -> None:
        """Send until cancelled, through outages of PostgreSQL. A recipient that hangs delays no other recipient."""
        steps: list[Callable[[], Awaitable[None]]] = [self.admit]
        steps += [partial(self.send, name) for name in self._recipients.names]
        await run_together(*(repeat(step, _INTERVAL_SECONDS, "sending notices") for step in steps))

    async def admit(self) -> None:
        """Decide who gets new notices, and which notices may be sent now.

        Notices above the limit are held for an hour. Those that were held for an hour become one digest. Does nothing
        while another worker decides.
        """
        now = self._clock()
        async with self._pool.acquire() as connection, connection.transaction():
            if not await notifications.may_admit(connection):
                return
            await self._drop_former_recipients(connection)
            new = await notifications.unaddressed(connection, _ADDRESSED_AT_A_TIME)
            recipients_of_notices = {number: self._recipients.names_for(owner) for number, owner in new}
            await notifications.address(connection, recipients_of_notices, now)
            for held in await notifications.held(connection, now):
                subject, body = render_digest(held.experiment_name, held.experiment_id, held.subjects)
                await notifications.merge(connection, held, subject, body, now)
            await notifications.admit(connection, MOST_AN_HOUR, now)

    async def _drop_former_recipients(self, connection: Connection) -> None:
        """Drop the notices of recipients that are not set any more, and resolve the alerts about them."""
        now, names = self._clock(), self._recipients.names
        await notifications.drop_other_recipients(connection, names, now)
        for number, name in await alerts.still_open(connection, AlertKind.NOTIFICATION_FAILED):
            owner = await notifications.owner(connection, number)
            if name not in (names if owner is None else self._recipients.names_for(owner)):
                await alerts.report(connection, number, AlertKind.NOTIFICATION_FAILED, name, None, now)

    async def send(self, recipient: str) -> None:
        """Send the notices that one recipient may get now. `recipient` is a name of `Recipients`."""
        async with self._pool.acquire() as connection:
            claimed = await notifications.claim(
                connection, recipient, limit=_AT_A_TIME, lease=_LEASE, now=self._clock()
            )
        letters = [
            Letter(self._recipients.url(recipient, notice.owner), notice.subject, notice.body) for notice in claimed
        ]

        async def record(index: int, error: str) -> None:
            await self._record_attempt(recipient, claimed[index], error)

        await deliver(letters, self._send_seconds, record)

    async def _record_attempt(self, recipient: str, notice: Claimed, error: str) -> None:
        """Store whether a notice was sent. `error` says why not, and is empty if it was.

        After the last failed attempt the notice is given up, and an alert is raised; the next notice that is sent
        resolves it.
        """
        now = self._clock()
        number = notice.experiment_number if recipient == OWNER else None
        async with self._pool.acquire() as connection, connection.transaction():
            if not error:
                await notifications.mark_sent(connection, notice.number, now)
                await alerts.report(connection, number, AlertKind.NOTIFICATION_FAILED, recipient, None, now)
                return
            is_last = notice.attempts > len(RETRY_PAUSES)
            log.warning(
                "notice not sent, giving it up" if is_last else "notice not sent, trying again later",
                recipient=recipient,
                attempts=notice.attempts,
                error=error,
            )
            if not is_last:
                retry_at = now + RETRY_PAUSES[notice.attempts - 1]
                await notifications.retry(connection, notice.number, error, retry_at)
                return
            await notifications.fail(connection, notice.number, error, now)
            problem = f"notices do not reach {describe_recipient(recipient, notice.owner)}: {error}"
            await alerts.report(connection, number, AlertKind.NOTIFICATION_FAILED, recipient, problem, now)


async def send_test(recipients: Recipients, owner: str) -> dict[str, str]:
    """Send a test notice to every recipient of an owner's experiments, at once.

    Returns why it could not be sent, by the name of each recipient who did not get it.
    """
    failures: dict[str, str] = {}

    async def send(name: str) -> None:
        async def record(_index: int, error: str) -> None:
            if error:
                failures[name] = error

        await deliver([Letter(recipients.url(name, owner), TEST_SUBJECT, TEST_BODY)], SEND_SECONDS, record)

    await asyncio.gather(*(send(name) for name in recipients.names_for(owner)))
    return failures
