"""Sends what is in the outbox: at least once, at most so much an hour, and never in the way of anything else."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from functools import partial

import asyncpg
import structlog

from server.clock import Clock
from server.notifications.delivery import Letter, deliver
from server.notifications.notices import TEST, digest
from server.notifications.recipients import OWNER, Recipients, describe
from server.tasks import keep_on, run_together
from storage.postgres.operations import alerts, notifications
from storage.postgres.operations.alerts import AlertKind
from storage.postgres.operations.notifications import Claimed
from storage.postgres.pool import Connection

log = structlog.get_logger()
MOST_AN_HOUR = 20  # for each experiment and recipient
PAUSES = tuple(timedelta(minutes=minutes) for minutes in (1, 5, 30, 120, 240, 480, 960))  # after each failed attempt
SEND_SECONDS = 30.0
_INTERVAL_SECONDS = 1.0
_AT_A_TIME = 10
_ADDRESSED_AT_A_TIME = 500
_LEASE = timedelta(minutes=15)  # more than as many letters as are claimed can take


class Sender:
    """One worker's part: it admits what is due, and sends to each recipient apart."""

    def __init__(
        self, pool: asyncpg.Pool, recipients: Recipients, clock: Clock, send_seconds: float = SEND_SECONDS
    ) -> None:
        """`send_seconds` is how long a recipient may take for one notice."""
        self._pool = pool
        self._recipients = recipients
        self._clock = clock
        self._send_seconds = send_seconds

    async def run(self) -> None:
        """Send until cancelled, through outages of Postgres. A recipient that hangs delays itself alone."""
        steps: list[Callable[[], Awaitable[None]]] = [self.admit]
        steps += [partial(self.send, name) for name in self._recipients.names]
        await run_together(*(keep_on(step, _INTERVAL_SECONDS, "sending notices") for step in steps))

    async def admit(self) -> None:
        """Say who gets what is new, and let go what is due, as much as a recipient may get; the rest as digests."""
        now = self._clock()
        async with self._pool.acquire() as connection, connection.transaction():
            if not await notifications.may_admit(connection):
                return
            await self._forget_former(connection)
            new = await notifications.unaddressed(connection, _ADDRESSED_AT_A_TIME)
            named = {number: self._recipients.named_for(owner) for number, owner in new}
            await notifications.address(connection, named, now)
            for together in await notifications.held(connection, now):
                text = digest(together.experiment_name, together.experiment_id, together.subjects)
                await notifications.merge(connection, together, *text, now)
            await notifications.admit(connection, MOST_AN_HOUR, now)

    async def _forget_former(self, connection: Connection) -> None:
        """Nothing waits for recipients that are not set any more, and nothing is wrong with those who get nothing."""
        now, names = self._clock(), self._recipients.names
        await notifications.forsake(connection, names, now)
        for number, name in await alerts.still_open(connection, AlertKind.NOTIFICATION_FAILED):
            owner = await notifications.owner(connection, number)
            if name not in (names if owner is None else self._recipients.named_for(owner)):
                await alerts.report(connection, number, AlertKind.NOTIFICATION_FAILED, name, None, now)

    async def send(self, recipient: str) -> None:
        """Send what is admitted for one of the recipients."""
        async with self._pool.acquire() as connection:
            claimed = await notifications.claim(
                connection, recipient, limit=_AT_A_TIME, lease=_LEASE, now=self._clock()
            )
        letters = [Letter(self._recipients.url(recipient, c.owner), c.subject, c.body) for c in claimed]
        await deliver(letters, self._send_seconds, lambda place, why: self._settle(recipient, claimed[place], why))

    async def _settle(self, recipient: str, notice: Claimed, why: str) -> None:
        """Keep what came of an attempt; `why` it failed is empty if it did not."""
        now = self._clock()
        number = notice.experiment_number if recipient == OWNER else None
        alert = number, AlertKind.NOTIFICATION_FAILED, recipient
        async with self._pool.acquire() as connection, connection.transaction():
            if not why:
                await notifications.sent(connection, notice.number, now)
                await alerts.report(connection, *alert, None, now)
                return
            log.warning("notice not sent", recipient=recipient, attempts=notice.attempts, error=why)
            if notice.attempts <= len(PAUSES):
                await notifications.retry(connection, notice.number, why, now + PAUSES[notice.attempts - 1])
                return
            await notifications.fail(connection, notice.number, why, now)
            problem = f"notices do not reach {describe(recipient, notice.owner)}: {why}"
            await alerts.report(connection, *alert, problem, now)


async def send_test(recipients: Recipients, owner: str) -> dict[str, str]:
    """Send a notice of no consequence to everyone, at once; why not, by the names of those who did not get it."""
    failures: dict[str, str] = {}

    async def send(name: str) -> None:
        async def done(_place: int, why: str) -> None:
            if why:
                failures[name] = why

        await deliver([Letter(recipients.url(name, owner), *TEST)], SEND_SECONDS, done)

    await asyncio.gather(*(send(name) for name in recipients.named_for(owner)))
    return failures
