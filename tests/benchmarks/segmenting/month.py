"""A simulated month: traffic grows, segmentation turns itself on, is measured, and turns itself off if it stops paying.

The server, its worker, PostgreSQL and Valkey are real; the clock and the users are simulated.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from samplit.admin.v1 import experiment_pb2

from storage.postgres.pool import connect
from tests.benchmarks.row import Row
from tests.benchmarks.testbed.in_process import simulated
from tests.conftest import Clock
from tests.support.days import Days, Population, of_sources, two_variants
from tests.support.mail import Mailbox, smtp_server
from tests.support.service import Service

CROSSOVER = of_sources({"instagram": {"control": 0.10, "b": 0.14}, "google": {"control": 0.14, "b": 0.10}})
REVERSED = of_sources({"instagram": {"control": 0.14, "b": 0.10}, "google": {"control": 0.10, "b": 0.14}})
_DAYS, _PARTS = 30, 4
_THRESHOLD = 1_000
_OWNER = "growth@example.com"
_FIRST_USER = 5  # day
# The rate of the variant that was drawn minus the other's, by source.
_TRUE_LIFT = """
    SELECT avg((q_segment - q_global) * CASE (context ->> 'source') || variant_no
        WHEN 'instagram0' THEN -0.04 WHEN 'instagram1' THEN 0.04 WHEN 'google0' THEN 0.04 ELSE -0.04 END)
    FROM assignments WHERE assigned_at >= $1
"""


@dataclass
class _Log:
    """What happened on which day, from 1."""

    on: int | None = None
    off: int | None = None
    last_full_day: int = 0  # visitors of the day before segmentation was turned on
    metrics: Any = None
    true_lift: float = 0.0


def rows() -> list[Row]:
    """Measure a crossover that stays, and one that reverses three weeks later."""
    return asyncio.run(_both())


async def _both() -> list[Row]:
    return [*await _staying(), *await _reversing()]


async def _staying() -> list[Row]:
    log, mailbox = await _month(_DAYS, lambda day: CROSSOVER)
    lift = log.metrics.avg_lift
    return [
        Row(
            figure="0, 500 (day 5), 1,200 (day 12), 5,000 (day 22) visitors a day; a crossover by source",
            reference=f"threshold {_THRESHOLD:,} visitors a day",
            ours=f"turned on after day {log.on}" if log.on else "never turned on",
            ratio=log.last_full_day / _THRESHOLD,
            spread=f"{log.last_full_day:,} visitors on the day before",
            goal="on, after the threshold",
            holds=log.on is not None and log.last_full_day >= _THRESHOLD,
        ),
        _mail("e-mail to the owner that it was turned on", mailbox, "on"),
        Row(
            figure="measured lift of the segmentation",
            reference=f"true lift {log.true_lift:+.2%}",
            ours=f"{lift.value:+.2%}",
            ratio=lift.value / log.true_lift,
            spread=f"[{lift.lower:+.2%}, {lift.upper:+.2%}]; expected {log.metrics.expected_lift.value:+.2%}",
            goal="90 % interval covers",
            holds=lift.lower <= log.true_lift <= lift.upper,
        ),
        Row(
            figure="a lift that stays",
            reference="must stay on",
            ours="on to the end" if log.off is None else f"off after day {log.off}",
            ratio=1.0,
            spread=f"statistic {log.metrics.vanished:.3g} of 500",
            goal="on",
            holds=log.off is None,
        ),
    ]


async def _reversing() -> list[Row]:
    turned = 30
    log, mailbox = await _month(turned + _DAYS, lambda day: CROSSOVER if day <= turned else REVERSED)
    after = None if log.off is None else log.off - turned
    return [
        Row(
            figure=f"the same, reversed from day {turned + 1} on, 5,000 visitors a day",
            reference=f"on after day {log.on}",
            ours="never turned off" if after is None else f"off {after} days after it turned round",
            ratio=0.0 if after is None else after / _DAYS,
            spread=f"one run, day {log.off}",
            goal="off within 30 days, not before",
            holds=after is not None and 0 < after <= _DAYS,
        ),
        _mail("e-mail to the owner that it was turned off", mailbox, "off"),
    ]


async def _month(days: int, population: Callable[[int], Population]) -> tuple[_Log, Mailbox]:
    async with smtp_server(Mailbox()) as mailbox:
        url = mailbox.url("{owner}")
        async with simulated(notify_owner_url=url) as (service, clock):
            log = await _live(service, clock, days, population, mailbox)
    return log, mailbox


async def _live(
    service: Service, clock: Clock, days: int, population: Callable[[int], Population], mailbox: Mailbox
) -> _Log:
    config = experiment_pb2.SegmentationConfig(auto_activation=True, auto_activation_threshold=_THRESHOLD)
    await service.call("CreateExperiment", experiment=two_variants(owner=_OWNER, segmentation=config))
    await service.call("StartExperiment", experiment_id="cta")
    month, log = Days(service, clock), _Log()
    before = 0
    for day in range(1, days + 1):
        visitors = _visitors(day)
        for _ in range(_PARTS):
            action = (await month.check()).action
            if action.startswith("segment by"):
                log.on, log.last_full_day = log.on or day - 1, before
                await month.serving()
            elif action:
                log.off = log.off or day - 1
                await month.serving()
            await month.part(visitors // _PARTS, population(day))
            clock.advance(hours=24 / _PARTS)
        before = visitors
        if log.off:
            break
    log.metrics = await service.call("GetSegmentationMetrics", experiment_id="cta")
    connection = await connect(service.settings.stores[0])
    since = log.metrics.serves_since.ToDatetime(clock.now.tzinfo)
    log.true_lift = await connection.fetchval(_TRUE_LIFT, since) or 0.0
    await connection.close()
    await mailbox.holds(bool(log.on) + bool(log.off))
    return log


def _visitors(day: int) -> int:
    return 0 if day < _FIRST_USER else 500 if day < 12 else 1_200 if day < 22 else 5_000


def _mail(figure: str, mailbox: Mailbox, word: str) -> Row:
    found = [subject for letter in mailbox.to(_OWNER) if (subject := str(letter["subject"])).endswith(f" {word}")]
    return Row(
        figure=figure,
        reference="a real SMTP server",
        ours=found[0] if found else "none",
        ratio=float(len(found)),
        spread=f"{len(mailbox.letters)} e-mails in all",
        goal="one",
        holds=len(found) == 1,
    )
