"""How well user agents are classified, on labelled collections, and what a call costs.

The rules were written on one half of the Matomo collection; the figures come from the other half.
"""

import gzip
import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from ua_parser import user_agent_parser
from user_agents import parse

from allocator.context.user_agent import parse_user_agent
from tests.benchmarks.row import Row
from tests.support.data import data_file

BOT = "bot"
_MATOMO, _CRAWLERS = "ua/matomo_device_detector.tsv.gz", "ua/crawler_user_agents.tsv.gz"
_FAKE, _TOP = "ua/fake_useragent.tsv.gz", "ua/top_user_agents.json"
_CLASSES = ("mobile", "tablet", "desktop", BOT)
_ACCURACY_GOAL, _RECALL_GOAL, _COST_GOAL = 0.95, 0.95, 200e-6
_TIMED = 4_000
_Classify = Callable[[str], str]


@dataclass(frozen=True)
class Labelled:
    """A user agent and its class."""

    text: str
    device: str


def rows() -> list[Row]:
    """Measure accuracy over four classes and in each, bots found, people taken for bots, cost of a cache miss."""
    matomo, crawlers, people = held_out(), _table(_CRAWLERS), ordinary()
    return [
        _share("Matomo's held-out half: accuracy", matomo, _ACCURACY_GOAL),
        *(_share(f"… of {name}", _only(matomo, name), None) for name in ("mobile", "tablet", "desktop")),
        _share("… of bots (recall)", _only(matomo, BOT), _RECALL_GOAL),
        _share("crawler list (an older edition of what the rules consult): recall", crawlers, _RECALL_GOAL),
        _false_bots(people),
        _cost([one.text for one in matomo]),
    ]


def has_data() -> bool:
    """Return whether every collection is present."""
    return all(data_file(name) for name in (_MATOMO, _CRAWLERS, _FAKE, _TOP))


def held_out() -> list[Labelled]:
    """Return the half of the Matomo collection that the rules were not written on, of the four classes."""
    half = (one for one in _table(_MATOMO) if hashlib.blake2b(one.text.encode()).digest()[0] % 2)
    return [one for one in half if one.device in _CLASSES]


def ordinary() -> list[Labelled]:
    """Return user agents of people's browsers."""
    return _table(_FAKE) + [Labelled(text, "") for text in json.loads(_bytes(_TOP))]


def _bytes(name: str) -> bytes:
    path = data_file(name)
    if path is None:
        raise SystemExit(f"{name} is needed below $SAMPLIT_TEST_DATA")
    return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()


def _table(name: str) -> list[Labelled]:
    lines = _bytes(name).decode().splitlines()[1:]
    return [Labelled(*line.split("\t")[:2]) for line in lines]


def _only(labelled: Sequence[Labelled], device: str) -> list[Labelled]:
    return [one for one in labelled if one.device == device]


def _ours(text: str) -> str:
    agent = parse_user_agent(text)
    return BOT if agent.is_bot else agent.device


def _plain(text: str) -> str:
    """Classify with the package user_agents alone."""
    agent = parse(text)
    if agent.is_bot:
        return BOT
    return "tablet" if agent.is_tablet else "mobile" if agent.is_mobile else "desktop" if agent.is_pc else "other"


def _right(classify: _Classify, labelled: Sequence[Labelled]) -> float:
    return sum(classify(one.text) == one.device for one in labelled) / len(labelled)


def _share(figure: str, labelled: Sequence[Labelled], goal: float | None) -> Row:
    plain, ours = _right(_plain, labelled), _right(_ours, labelled)
    error = float(np.sqrt(ours * (1 - ours) / len(labelled)))
    return Row(
        figure=figure,
        reference=f"{plain:.2%} (plain user-agents)",
        ours=f"{ours:.2%}",
        ratio=ours / plain,
        spread=f"± {error:.2%} of {len(labelled):,}",
        goal=f"≥ {goal:.0%}" if goal else "≥ reference",
        holds=ours >= (goal or plain),
    )


def _false_bots(people: Sequence[Labelled]) -> Row:
    plain, ours = (sum(classify(one.text) == BOT for one in people) for classify in (_plain, _ours))
    return Row(
        figure="people of fake_useragent and top_user_agents taken for bots",
        reference=f"{plain} (plain user-agents)",
        ours=f"{ours}",
        ratio=ours / max(plain, 1),
        spread=f"of {len(people):,}",
        goal="0",
        holds=ours == 0,
    )


def _cost(texts: Sequence[str]) -> Row:
    """Measure with distinct user agents, of which neither cache has seen any."""
    chosen = np.random.default_rng(3).permutation(len(texts))[:_TIMED]
    parse_user_agent.cache_clear()
    seconds = np.array(
        [(_seconds(user_agent_parser.Parse, texts[i]), _seconds(parse_user_agent, texts[i])) for i in chosen]
    )
    legacy, ours = np.median(seconds, axis=0)
    return Row(
        figure="cache miss, median",
        reference=f"{legacy * 1e6:.0f} µs (legacy parse)",
        ours=f"{ours * 1e6:.0f} µs",
        ratio=float(ours / legacy),
        spread=f"99 % within {np.quantile(seconds[:, 1], 0.99) * 1e6:.0f} µs of {len(chosen):,}",
        goal=f"≤ {_COST_GOAL * 1e6:.0f} µs",
        holds=bool(ours <= _COST_GOAL),
    )


def _seconds(parse_one: Callable[[str], object], text: str) -> float:
    begin = time.perf_counter()
    parse_one(text)
    return time.perf_counter() - begin
