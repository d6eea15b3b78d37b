"""Notices go from the transaction that enqueues them to a real SMTP server, through outages, limits and kills."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from datetime import timedelta

import asyncpg
import pytest
from pydantic import SecretStr, ValidationError
from structlog.testing import capture_logs

from allocator.experiment import Experiment, ExperimentDraft, Variant
from server.notifications.notices import NoticeKind, enqueue_notice
from server.notifications.recipients import OWNER, Recipients
from server.notifications.sender import MOST_AN_HOUR, RETRY_PAUSES, Sender
from server.runtime.worker import run_worker
from server.settings import Settings
from storage.postgres.counts import traffic
from storage.postgres.experiments import experiments
from storage.postgres.operations import alerts, notifications
from storage.postgres.pool import create_pool
from tests.conftest import Clock
from tests.support.mail import PASSWORD, Mailbox, hanging_server, smtp_server, text
from tests.support.service import Service
from tests.support.waiting import PATIENCE_SECONDS

TEAM, ALICE = "team@example.com", "alice@example.com"
NOBODY = Recipients([], "")


@pytest.fixture
async def pool(dsn: str) -> AsyncIterator[asyncpg.Pool]:
    pool = await create_pool(dsn, size=4)
    yield pool
    await pool.close()


@pytest.fixture
async def box() -> AsyncIterator[Mailbox]:
    async with smtp_server(Mailbox()) as box:
        yield box


async def make(pool: asyncpg.Pool, clock: Clock, experiment_id: str = "cta", owner: str = ALICE) -> Experiment:
    variants = (Variant(0, "control", "Control", {}), Variant(1, "a", "A", {}))
    draft = ExperimentDraft(experiment_id, experiment_id.upper(), variants, "control", owner=owner)
    async with pool.acquire() as connection, connection.transaction():
        return await experiments.insert(connection, draft, clock())


async def notify(pool: asyncpg.Pool, clock: Clock, experiment: Experiment | None, problem: str) -> None:
    async with pool.acquire() as connection, connection.transaction():
        kind, next_step = NoticeKind.ALERT_RAISED, "Do this."
        await enqueue_notice(connection, experiment, kind, clock(), problem=problem, next_step=next_step)


def for_all(box: Mailbox) -> Recipients:
    return Recipients([box.url(TEAM)], box.url("{owner}"))


async def step(sender: Sender, *names: str) -> None:
    """Do once what `Sender.run` repeats."""
    await sender.admit()
    for name in names:
        await sender.send(name)


async def rows(pool: asyncpg.Pool) -> list[asyncpg.Record]:
    found: list[asyncpg.Record] = await pool.fetch("SELECT * FROM notifications ORDER BY notification_no")
    return found


async def open_alerts(pool: asyncpg.Pool) -> list[alerts.Alert]:
    async with pool.acquire() as connection:
        return await alerts.list_page(connection, experiment_number=None, open_only=True, before=None, limit=100)


async def test_owner_and_team_are_told_once(pool: asyncpg.Pool, clock: Clock, box: Mailbox) -> None:
    experiment = await make(pool, clock, owner=ALICE)
    ownerless = await make(pool, clock, "banner", owner="Alice")
    sender = Sender(pool, for_all(box), clock)
    await notify(pool, clock, experiment, "bots have asked 5,000 times today")
    await notify(pool, clock, ownerless, "nobody has converted")
    await notify(pool, clock, None, "events wait")
    async with pool.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        kind = NoticeKind.ALERT_RAISED
        await enqueue_notice(connection, experiment, kind, clock(), problem="rolled back", next_step="Do nothing.")
        await transaction.rollback()
    for _ in range(2):
        await step(sender, "1", OWNER)
    assert [letter["Subject"] for letter in box.to(ALICE)] == ["CTA: bots have asked 5,000 times today"]
    assert [letter["Subject"] for letter in box.to(TEAM)] == [
        "CTA: bots have asked 5,000 times today",
        "BANNER: nobody has converted",
        "Samplit: events wait",
    ]
    assert len(box.letters) == 4
    assert (
        "CTA needs attention: bots have asked 5,000 times today. What to do: Do this. You get one notice when a "
        "problem begins, and one when it is over." in text(box.to(ALICE)[0])
    )
    assert "See the open alerts: samplit alerts list cta" in text(box.to(TEAM)[0])
    assert box.to(TEAM)[0]["From"] == "samplit@example.com"
    assert all(row["sent_at"] == clock.now for row in await rows(pool))


async def test_without_recipients_nothing_waits(pool: asyncpg.Pool, clock: Clock, box: Mailbox) -> None:
    await notify(pool, clock, await make(pool, clock), "bots")
    await step(Sender(pool, NOBODY, clock))
    (row,) = await rows(pool)
    assert (row["recipient"], row["sent_at"]) == ("", clock.now)
    await step(Sender(pool, for_all(box), clock), "1", OWNER)
    assert box.letters == []


async def test_nothing_waits_for_a_recipient_that_is_not_set_any_more(
    pool: asyncpg.Pool, clock: Clock, box: Mailbox
) -> None:
    await notify(pool, clock, await make(pool, clock), "bots")
    await Sender(pool, for_all(box), clock).admit()
    team_alone = Sender(pool, Recipients([box.url(TEAM)], ""), clock)
    await step(team_alone, "1")
    assert [letter["X-Recipients"] for letter in box.letters] == [TEAM]
    assert sorted((row["recipient"], row["sent_at"]) for row in await rows(pool)) == [("", clock.now), ("1", clock.now)]


async def test_a_server_that_is_down_gets_it_once_when_it_is_back(pool: asyncpg.Pool, clock: Clock) -> None:
    async with smtp_server(Mailbox()) as box:
        pass
    sender = Sender(pool, Recipients([box.url(TEAM)], ""), clock)
    await notify(pool, clock, await make(pool, clock), "bots")
    for pause, attempts in ((0, 1), (59, 1), (1, 2), (299, 2)):
        clock.advance(seconds=pause)
        await step(sender, "1")
        (row,) = await rows(pool)
        assert (row["attempts"], row["sent_at"]) == (attempts, None)
        assert row["error"] == "E-Mail did not accept the notice"
    async with smtp_server(box):
        clock.advance(seconds=1)
        for _ in range(2):
            await step(sender, "1")
            clock.advance(days=1)
        assert [letter["Subject"] for letter in box.letters] == ["CTA: bots"]
    assert await open_alerts(pool) == []


async def test_a_server_that_hangs_delays_nothing_and_is_reported(
    pool: asyncpg.Pool, clock: Clock, box: Mailbox
) -> None:
    """Other recipients get their notices. After the last attempt an alert is raised, and no notice is sent of it."""
    experiment = await make(pool, clock)
    async with hanging_server() as hanging:
        sender = Sender(pool, Recipients([box.url(TEAM)], hanging.url("{owner}")), clock, send_seconds=3)
        running = asyncio.create_task(sender.run())
        for n in range(2):
            await notify(pool, clock, experiment, f"problem {n}")
        began = asyncio.get_running_loop().time()
        await box.holds(2)
        took = asyncio.get_running_loop().time() - began
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not all(row["error"] for row in await rows(pool) if row["recipient"] == OWNER):
                await asyncio.sleep(0.05)
        running.cancel()
        await asyncio.wait({running})
        assert took < 15
        sender = Sender(pool, Recipients([box.url(TEAM)], hanging.url("{owner}")), clock, send_seconds=0.2)
        for pause in RETRY_PAUSES:
            assert await open_alerts(pool) == []
            clock.advance(seconds=pause.total_seconds())
            await step(sender, OWNER)
        of_owner = [row for row in await rows(pool) if row["recipient"] == OWNER]
        assert {(row["attempts"], row["error"]) for row in of_owner} == {
            (len(RETRY_PAUSES) + 1, "the server did not answer in time")
        }
        assert all(row["failed_at"] is not None for row in of_owner)
    (alert,) = await open_alerts(pool)
    assert (alert.kind, alert.experiment_id, alert.key) == (alerts.AlertKind.NOTIFICATION_FAILED, "cta", OWNER)
    assert alert.summary == f"notices do not reach the owner, {ALICE}: the server did not answer in time"
    assert len(await rows(pool)) == 4
    await sender.admit()
    assert await open_alerts(pool) == [alert]
    await notify(pool, clock, experiment, "the last")
    await step(Sender(pool, for_all(box), clock), "1", OWNER)
    assert [letter["Subject"] for letter in box.to(ALICE)] == ["CTA: the last"]
    assert await open_alerts(pool) == []
    assert len(box.letters) == 4


async def test_what_is_above_the_limit_goes_as_one_digest(pool: asyncpg.Pool, clock: Clock, box: Mailbox) -> None:
    flooded, calm = await make(pool, clock), await make(pool, clock, "banner")
    sender = Sender(pool, Recipients([box.url(TEAM)], ""), clock)

    async def sent() -> list[str]:
        """Send what is due. Return the subjects of the letters that arrived since the last call."""
        for _ in range(3):
            await step(sender, "1")
        found = [letter["Subject"] for letter in box.letters]
        box.letters.clear()
        return found

    for n in range(MOST_AN_HOUR + 3):
        await notify(pool, clock, flooded, f"problem {n}")
    assert await sent() == [f"CTA: problem {n}" for n in range(MOST_AN_HOUR)]
    clock.advance(minutes=59)
    await notify(pool, clock, flooded, "one more")
    await notify(pool, clock, calm, "hello")
    assert await sent() == ["BANNER: hello"]
    clock.advance(minutes=1)
    await step(sender, "1")
    assert [letter["Subject"] for letter in box.letters] == ["CTA: 4 notices of the last hour"]
    listed = text(box.letters[0])
    assert all(f"CTA: problem {n}" in listed for n in range(MOST_AN_HOUR, MOST_AN_HOUR + 3))
    assert "CTA: one more" in listed
    await sent()
    for n in range(MOST_AN_HOUR):
        await notify(pool, clock, flooded, f"again {n}")
    assert await sent() == [f"CTA: again {n}" for n in range(MOST_AN_HOUR - 1)]


async def test_a_digest_that_comes_late_comes_whole(pool: asyncpg.Pool, clock: Clock) -> None:
    """The digest could not be sent. When it is sent again, more notices of its experiment are held."""
    async with smtp_server(Mailbox()) as box:
        pass
    sender = Sender(pool, Recipients([box.url(TEAM)], ""), clock)
    experiment = await make(pool, clock)
    for n in range(MOST_AN_HOUR + 3):
        await notify(pool, clock, experiment, f"problem {n}")
    await step(sender, "1")
    clock.advance(hours=1)
    await sender.admit()
    for n in range(MOST_AN_HOUR + 3):
        await notify(pool, clock, experiment, f"again {n}")
    await step(sender, "1")
    clock.advance(minutes=1)
    async with smtp_server(box):
        for _ in range(3):
            await step(sender, "1")
    digests = [letter for letter in box.letters if "notices of the last hour" in letter["Subject"]]
    (digest,) = digests
    assert f"CTA: problem {MOST_AN_HOUR}" in text(digest)


async def test_workers_share_the_work(pool: asyncpg.Pool, clock: Clock, box: Mailbox) -> None:
    experiment = await make(pool, clock)
    senders = [Sender(pool, for_all(box), clock) for _ in range(2)]
    for n in range(15):
        await notify(pool, clock, experiment, f"problem {n}")
    await asyncio.gather(*(sender.admit() for sender in senders))
    await asyncio.gather(*(sender.send(name) for sender in senders for name in ("1", OWNER)))
    await asyncio.gather(*(sender.send(name) for sender in senders for name in ("1", OWNER)))
    subjects = sorted(f"CTA: problem {n}" for n in range(15))
    assert sorted(letter["Subject"] for letter in box.to(TEAM)) == subjects
    assert sorted(letter["Subject"] for letter in box.to(ALICE)) == subjects


async def test_workers_do_not_wait_for_each_other(pool: asyncpg.Pool, clock: Clock, box: Mailbox) -> None:
    experiment = await make(pool, clock)
    for n in range(5):
        await notify(pool, clock, experiment, f"problem {n}")
    await Sender(pool, Recipients([box.url(TEAM)], ""), clock).admit()
    async with pool.acquire() as one, pool.acquire() as other, one.transaction(), asyncio.timeout(PATIENCE_SECONDS):
        claims = [
            await notifications.claim(connection, "1", limit=3, lease=timedelta(minutes=15), now=clock())
            for connection in (one, other)
        ]
    assert [[claimed.subject for claimed in claim] for claim in claims] == [
        ["CTA: problem 0", "CTA: problem 1", "CTA: problem 2"],
        ["CTA: problem 3", "CTA: problem 4"],
    ]


async def test_what_a_dead_worker_has_claimed_is_sent_by_another(
    pool: asyncpg.Pool, clock: Clock, box: Mailbox
) -> None:
    await notify(pool, clock, await make(pool, clock), "bots")
    sender = Sender(pool, Recipients([box.url(TEAM)], ""), clock)
    await sender.admit()
    async with pool.acquire() as connection:
        lease = timedelta(minutes=15)
        assert len(await notifications.claim(connection, "1", limit=10, lease=lease, now=clock())) == 1
    await step(sender, "1")
    assert box.letters == []
    clock.advance(minutes=15)
    await step(sender, "1")
    assert len(box.letters) == 1


async def test_urls_are_in_no_row_log_or_error(
    pool: asyncpg.Pool, clock: Clock, box: Mailbox, capfd: pytest.CaptureFixture[str]
) -> None:
    token = "T0KENSECRET"  # noqa: S105
    urls = [
        box.url(TEAM),
        f"nosuchservice://{token}",
        f"mailto://robot:{token}@127.0.0.1:1?from=a@example.com&to={TEAM}",
    ]
    settings = Settings(notify_urls=SecretStr(" ".join(urls)), notify_owner_url=SecretStr(box.url("{owner}")))
    sender = Sender(pool, Recipients.of(settings), clock)
    await notify(pool, clock, await make(pool, clock), "bots")
    with capture_logs() as logs:
        for pause in (timedelta(0), *RETRY_PAUSES):
            clock.advance(seconds=pause.total_seconds())
            await step(sender, "1", "2", "3", OWNER)
    assert len(box.letters) == 2
    assert {log["recipient"] for log in logs} == {"2", "3"}
    with pytest.raises(ValidationError) as wrong:
        Settings(notify_urls=SecretStr(urls[0]), notify_owner_url=SecretStr(urls[2]))
    kept = await pool.fetch("SELECT n::text FROM notifications n UNION ALL SELECT a::text FROM alerts a")
    found = [alert.summary for alert in await open_alerts(pool)]
    assert sorted(found) == [
        "notices do not reach URL 2 of SAMPLIT_NOTIFY_URLS: apprise does not understand this URL",
        "notices do not reach URL 3 of SAMPLIT_NOTIFY_URLS: E-Mail did not accept the notice",
    ]
    await step(Sender(pool, Recipients(urls[:1], ""), clock), "1")
    assert await open_alerts(pool) == []
    everything = f"{kept} {logs} {capfd.readouterr()} {settings!r} {wrong.value} {sender!r}"
    for secret in (token, PASSWORD, "robot", "nosuchservice"):
        assert secret not in everything


async def test_a_worker_tells_of_what_it_finds(service: Service, clock: Clock, dsn: str, box: Mailbox) -> None:
    await service.running(owner=ALICE)
    pool = await create_pool(dsn, size=1)
    async with pool.acquire() as connection:
        await traffic.add_bot_requests(connection, {(1, clock.now.date()): 5_000})
    settings = service.settings.model_copy(
        update={
            "notify_urls": SecretStr(f"{box.url(TEAM)}\n{box.url('boss@example.com')}"),
            "notify_owner_url": SecretStr(box.url("{owner}")),
        }
    )
    ready = asyncio.Event()
    worker = asyncio.create_task(run_worker(settings, clock, ready))
    await box.holds(3)
    worker.cancel()
    await asyncio.wait({worker})
    assert sorted(letter["X-Recipients"] for letter in box.letters) == [ALICE, "boss@example.com", TEAM]
    assert {letter["Subject"] for letter in box.letters} == {
        "CTA: bots have sent 5,000 requests today, against 0 on a usual day and 0 visitors today"
    }
    await pool.close()


async def run_test(**variables: str) -> tuple[int | None, str]:
    """Run `samplit notify-test`. Return its exit status and its output."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "server.cli", "notify-test", "--owner", ALICE),
        env={**os.environ, **variables},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    printed, _ = await process.communicate()
    return process.returncode, printed.decode()


async def test_the_command_that_tests(box: Mailbox) -> None:
    status, printed = await run_test(SAMPLIT_NOTIFY_URLS=box.url(TEAM), SAMPLIT_NOTIFY_OWNER_URL=box.url("{owner}"))
    assert (status, printed.splitlines()) == (
        0,
        ["URL 1 of SAMPLIT_NOTIFY_URLS: sent", f"the owner, {ALICE}: sent"],
    )
    assert {letter["Subject"] for letter in box.letters} == {"Samplit: a test"}
    status, printed = await run_test(SAMPLIT_NOTIFY_URLS=f"{box.url(TEAM)} slackk://{PASSWORD}")
    assert (status, printed.splitlines()) == (
        1,
        [
            "URL 1 of SAMPLIT_NOTIFY_URLS: sent",
            "URL 2 of SAMPLIT_NOTIFY_URLS: apprise does not understand this URL",
            "samplit: 1 of 2 recipients got nothing",
        ],
    )
    status, printed = await run_test()
    assert status == 1
    assert "nobody would get notices: set SAMPLIT_NOTIFY_URLS" in printed
