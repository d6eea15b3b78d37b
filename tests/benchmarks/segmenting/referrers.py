"""How many sites of public lists are recognised, whether their media are right, and what a call costs.

The lists are for measuring only: no entry of the table was taken from them.
"""

import csv
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from allocator.context.traffic import Traffic, traffic
from tests.benchmarks.row import Row
from tests.support.data import data_file

_REFERERS, _CATEGORIES = "referrer/referers.yml", "referrer/ga4_source_categories.csv"
_COVERAGE_GOAL, _MEDIUM_GOAL, _COST_GOAL = 0.8, 0.97, 5e-6
_ROUNDS, _CALLS = 15, 2_000
_OURS = {"unknown": "referral"}  # pages of portals, neither search nor mail
_CATEGORY = {"SEARCH": "search", "SOCIAL": "social", "VIDEO": "social", "SHOPPING": "referral"}


@dataclass(frozen=True)
class Labelled:
    """A referrer or a campaign's source, and its medium as this project names it."""

    text: str
    medium: str


def rows() -> list[Row]:
    """Measure coverage and media by list, then calls by kind."""
    listed, categories = referers(), source_categories()
    came = [traffic("", "", (), one.text) for one in listed]
    named = [traffic(one.text, "", (), "") for one in categories]
    known, recognised = [is_known(one) for one in came], [is_named(one) for one in named]
    return [
        _share("referers.yml: hosts covered", known, _COVERAGE_GOAL),
        *(
            _share(f"… of {medium}", [known[i] for i, one in enumerate(listed) if one.medium == medium])
            for medium in dict.fromkeys(one.medium for one in listed)
        ),
        _share("… by the table, without customs of naming hosts", [is_named(one) for one in came]),
        _share("referers.yml: medium right of those covered", _agreement(listed, came, known), _MEDIUM_GOAL),
        _share("GA4 categories: sources known", recognised),
        _share("GA4 categories: medium agrees of those known", _agreement(categories, named, recognised)),
        _cost("known referrer", "", "", (), "https://www.google.co.uk/search?q=shoes"),
        _cost("unknown referrer", "", "", (), "https://blog.example.co.uk/2026/01/what-we-saw?page=2"),
        _cost("click id", "", "", ("gclid", "gbraid"), "https://www.google.com/"),
        _cost("campaign", "Instagram", "paid-social", ("fbclid",), "https://l.instagram.com/"),
    ]


def has_data() -> bool:
    """Return whether both lists are present."""
    return all(data_file(name) for name in (_REFERERS, _CATEGORIES))


def is_known(came: Traffic) -> bool:
    """Return whether more than the host is recognised."""
    return came.medium not in ("referral", "direct") or is_named(came)


def is_named(came: Traffic) -> bool:
    """Return whether the source is one of the table's."""
    return traffic(came.source, "", (), "").medium not in ("unknown", "direct")


def referers() -> list[Labelled]:
    """Return the hosts of the list, some with paths. It is YAML: media, names, and their domains and parameters."""
    found: dict[str, str] = {}
    medium = key = ""
    for line in _path(_REFERERS).read_text().splitlines():
        text, _, comment = line.partition("#")
        item = text.strip().removeprefix("- ").rstrip(":")
        if text.startswith(" ") and "- " in text:
            if key == "domains":
                scheme = "android-app" if "Android app" in comment else "https"
                found.setdefault(f"{scheme}://{item}", _OURS.get(medium, medium))
        elif text.startswith(" "):
            key = item
        elif item:
            medium = item
    return [Labelled(url, medium) for url, medium in found.items()]


def source_categories() -> list[Labelled]:
    """Return the sources as campaigns and Google Analytics name them."""
    with _path(_CATEGORIES).open() as file:
        return [
            Labelled(line["source"], _CATEGORY[line["source_category"].removeprefix("SOURCE_CATEGORY_")])
            for line in csv.DictReader(file)
        ]


def _path(name: str) -> Path:
    path = data_file(name)
    if path is None:
        raise SystemExit(f"{name} is needed below $SAMPLIT_TEST_DATA")
    return path


def _agreement(listed: Sequence[Labelled], came: Sequence[Traffic], known: Sequence[bool]) -> list[bool]:
    return [ours.medium == one.medium for one, ours, covered in zip(listed, came, known, strict=True) if covered]


def _share(figure: str, right: Sequence[bool], goal: float | None = None) -> Row:
    share = sum(right) / len(right)
    return Row(
        figure=figure,
        reference=f"{len(right):,}",
        ours=f"{sum(right):,} ({share:.1%})",
        ratio=share,
        spread="",
        goal=f"≥ {goal:.0%}" if goal else "reported",
        holds=share >= (goal or 0),
    )


def _cost(what: str, source: str, medium: str, click_ids: Sequence[str], referrer: str) -> Row:
    """Measure calls whose host or name was seen before, as most are."""
    rounds = []
    for _ in range(_ROUNDS):
        begin = time.process_time()
        for _ in range(_CALLS):
            traffic(source, medium, click_ids, referrer)
        rounds.append((time.process_time() - begin) / _CALLS)
    median = float(np.median(rounds))
    return Row(
        figure=f"call: {what}",
        reference=f"{_COST_GOAL * 1e6:.0f} µs",
        ours=f"{median * 1e6:.2f} µs",
        ratio=median / _COST_GOAL,
        spread=f"[{min(rounds) * 1e6:.2f}, {max(rounds) * 1e6:.2f}] of {_ROUNDS} rounds",
        goal=f"≤ {_COST_GOAL * 1e6:.0f} µs",
        holds=median <= _COST_GOAL,
    )
