"""Hillstrom's e-mail experiment with every dimension offered: what is recommended, and what it brings.

Customers got an e-mail about men's or women's merchandise, or none; the outcome is a visit within two weeks.
They arrive in random order, 1,300 a day; each converts as a customer did, drawn at random, who was like them
in sex of purchases, channel, area and newness and got in fact the variant that the server chose.
"""

import asyncio
import csv
import gzip
import io
from collections import defaultdict
from typing import Any

import numpy as np
from samplit.admin.v1 import experiment_pb2

from allocator.context import canonical
from tests.benchmarks.row import Row
from tests.benchmarks.testbed.in_process import simulated
from tests.conftest import Clock
from tests.support.data import data_file
from tests.support.days import Days, Person
from tests.support.service import Service

_FILE = "abtests/hillstrom_dev.csv.gz"
_SEED = 7
_A_DAY, _PARTS = 1_300, 4
_VARIANTS = {"No E-Mail": "control", "Mens E-Mail": "mens", "Womens E-Mail": "womens"}
_ALIKE = ("mens", "womens", "zip_code", "newbie", "channel")
_OFFERED = {
    "mens": "mens",
    "womens": "womens",
    "zip_code": "zip_code",
    "newbie": "newbie",
    "history_segment": "history_segment",
    "channel": "bought_by",
}


def rows() -> list[Row]:
    """Measure two runs: with the control among the variants, and with the two e-mails alone."""
    path = data_file(_FILE)
    if path is None:
        return []
    lines = list(csv.DictReader(io.StringIO(gzip.decompress(path.read_bytes()).decode())))
    two = [line for line in lines if line["segment"] != "No E-Mail"]
    return [row for name, users in (("all", lines), ("the two e-mails", two)) for row in asyncio.run(_run(name, users))]


async def _run(name: str, lines: list[dict[str, str]]) -> list[Row]:
    variants = [_VARIANTS[segment] for segment in _VARIANTS if any(line["segment"] == segment for line in lines)]
    async with simulated() as (service, clock):
        message = experiment_pb2.Experiment(
            experiment_id="cta",
            name="Hillstrom",
            variants=[experiment_pb2.Variant(variant_id=each, name=each) for each in variants],
            segmentation=experiment_pb2.SegmentationConfig(auto_activation=True),
        )
        await service.call("CreateExperiment", experiment=message)
        await service.call("StartExperiment", experiment_id="cta")
        return await _live(service, clock, f"Hillstrom, {name}", _people(lines, variants))


def _people(lines: list[dict[str, str]], variants: list[str]) -> list[Person]:
    """Return customers, each with the share of similar customers who visited, by variant."""
    seen: dict[tuple[str, ...], dict[str, list[int]]] = defaultdict(lambda: {each: [0, 0] for each in variants})
    for line in lines:
        cell = seen[tuple(line[name] for name in _ALIKE)][_VARIANTS[line["segment"]]]
        cell[0] += 1
        cell[1] += int(line["visit"])
    return [
        Person(
            {
                each: won / users if users else 0.0
                for each, (users, won) in seen[tuple(line[n] for n in _ALIKE)].items()
            },
            attributes={offered: canonical(line[name]) for name, offered in _OFFERED.items()}
            | {"recency": str(int(line["recency"]) // 4)},
        )
        for line in lines
    ]


async def _live(service: Service, clock: Clock, figure: str, people: list[Person]) -> list[Row]:
    order = iter(np.random.default_rng(_SEED).permutation(len(people)))

    def arrive(_rng: np.random.Generator, users: int) -> list[Person]:
        return [people[next(order)] for _ in range(users)]

    days, turned_on, check = Days(service, clock, seed=_SEED), None, None
    many = len(people) // _A_DAY
    for day in range(many):
        for _ in range(_PARTS):
            found = await days.check()
            check = found if turned_on is None else check
            if found.action and turned_on is None:
                turned_on = day
                await days.serving()
            await days.part(_A_DAY // _PARTS, arrive)
            clock.advance(hours=24 / _PARTS)
    final = await days.check()
    metrics = await service.call("GetSegmentationMetrics", experiment_id="cta")
    return [_recommended(figure, turned_on, check), *_lift(figure, metrics), _at_the_end(figure, many, final)]


def _recommended(figure: str, turned_on: int | None, check: Any) -> Row:
    strongest = ", ".join(
        f"{each.dimension} {each.e_value:.3g} of {each.e_value_needed:.0f}" for each in check.dimensions[:3]
    )
    found = [each.summary for each in check.recommendations]
    return Row(
        figure=f"{figure}: recommended",
        reference=f"strongest evidence: {strongest}",
        ours=f"{', '.join(found) or 'nothing'}" + (f", after day {turned_on}" if turned_on is not None else ""),
        ratio=float(len(found)),
        spread=f"{check.recommendations[0].trials:,} users" if found else "every look",
        goal="as found",
        holds=True,
    )


def _lift(figure: str, metrics: Any) -> list[Row]:
    if not metrics.HasField("avg_lift") or not metrics.HasField("expected_lift"):
        return []
    lift, expected = metrics.avg_lift, metrics.expected_lift
    return [
        Row(
            figure=f"{figure}: measured lift",
            reference=f"expected {expected.value:+.2%} [{expected.lower:+.2%}, {expected.upper:+.2%}]",
            ours=f"{lift.value:+.2%}",
            ratio=lift.value / expected.value,
            spread=f"[{lift.lower:+.2%}, {lift.upper:+.2%}]; {metrics.basis}",
            goal="as found",
            holds=True,
        )
    ]


def _at_the_end(figure: str, days: int, check: Any) -> Row:
    found = [each.summary for each in check.recommendations]
    return Row(
        figure=f"{figure}: recommended after {days} days",
        reference="-",
        ours=", ".join(found) or "nothing",
        ratio=float(len(found)),
        spread=check.summary,
        goal="as found",
        holds=True,
    )
