"""Clusters of simulated traffic: planted audiences are found and named; none are found where none are planted."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import chain

import numpy as np
from sklearn.metrics import adjusted_rand_score

from allocator.clusters import train
from tests.benchmarks.row import Row
from tests.support.audiences import AUDIENCES, CHANNELS, planted, structureless

_SEEDS = range(100, 120)  # the rules were tuned on other seeds
_USERS = 5_000
_LEAST_RAND = 0.95
_PLACES = "BR PT", "US EN", "DE DE", "IN HI"
_TIMES = "Weekend Evening", "Weekday Business-hours", "Weekday Morning Early-morning", "Weekend Late-night"
_DEVICES = "Mobile iOS Safari", "Desktop Windows Chrome", "Desktop macOS Firefox", "Mobile Android Chrome"
# The words that describe each audience, by channel. A name is acceptable if all of its words describe the audience
# that it is given to, and not all of them another audience.
_WORDS = {
    "web": (
        "New Instagram Social Summer Browsers",
        "New Google Paid Search Brand Browsers",
        "Returning Newsletter Email Monthly Browsers",
        "Returning TikTok Social Dance Browsers",
    ),
    "email": (
        "Loyal Frequent Keen Active Gmail Vip Summer Email Readers",
        "Occasional Outlook Trial Brand Email Readers",
        "Loyal Passive iCloud Icloud News Monthly Email Readers",
        "Dormant Silent Passive Lapsed Yahoo Old Dance Email Readers",
    ),
    "funnel": (
        "Decided Big-cart Payment Shop Shoppers",
        "Quick Empty-cart Trial Plans Shoppers",
        "Hesitant Lingering Cart Shop Shoppers",
        "Hesitant Message Gifts Shoppers",
    ),
    "push": ("Newly Joined App Users", "Silent App Users", "Frequent App Users", "Long-time App Users"),
}
_MIXED = tuple(_WORDS[channel][audience] for audience, channel in enumerate(CHANNELS))


@dataclass(frozen=True)
class _Trial:
    """The clusters of one population; `named` is the share of acceptable names."""

    clusters: int
    rand: float
    named: float
    names: tuple[str, ...]


def rows() -> list[Row]:
    """Measure for each channel and for all together: how many clusters are found, how well they fit, their names."""
    with ProcessPoolExecutor() as pool:
        return list(chain.from_iterable(_population(channel, pool) for channel in (*CHANNELS, None)))


def _population(channel: str | None, pool: ProcessPoolExecutor) -> Iterator[Row]:
    what = channel or "all channels"
    trials = list(pool.map(partial(_planted, channel), _SEEDS))
    rands = np.array([trial.rand for trial in trials])
    names = sorted({name for trial in trials for name in trial.names})
    yield _share(f"{what}: four audiences", [trial.clusters == AUDIENCES for trial in trials], "K = 4")
    yield Row(
        figure=f"{what}: adjusted Rand with the audiences",
        reference="1 is the same",
        ours=f"{rands.mean():.3f} on average",
        ratio=float(rands.min()),
        spread=f"{rands.min():.3f} to {rands.max():.3f}, {len(_SEEDS)} seeds",
        goal=f"≥ {_LEAST_RAND} with each seed",
        holds=bool(rands.min() >= _LEAST_RAND),
    )
    yield _share(f"{what}: names", [trial.named == 1 for trial in trials], "all acceptable", ", ".join(names))
    found = list(pool.map(partial(_structureless, channel), _SEEDS))
    yield _share(f"{what}: no structure", [clusters == 1 for clusters in found], "K = 1")


def _share(figure: str, held: Sequence[bool], goal: str, spread: str = "") -> Row:
    return Row(
        figure=figure,
        reference=f"{_USERS:,} users, {len(held)} seeds",
        ours=f"{sum(held)} of {len(held)}",
        ratio=sum(held) / len(held),
        spread=spread or "-",
        goal=f"{goal} with each seed",
        holds=all(held),
    )


def _planted(channel: str | None, seed: int) -> _Trial:
    contexts, truth = planted(channel, _USERS, seed)
    training = train(contexts, seed=seed)
    labels = training.model.label(contexts)
    named = [
        _acceptable(name, channel, int(np.bincount(truth[labels == number]).argmax()))
        for number, name in training.names.items()
    ]
    rand = float(adjusted_rand_score(truth, labels))
    return _Trial(len(training.sizes), rand, float(np.mean(named)), tuple(training.names.values()))


def _structureless(channel: str | None, seed: int) -> int:
    return len(train(structureless(channel, _USERS, seed), seed=seed).sizes)


def _acceptable(name: str, channel: str | None, audience: int) -> bool:
    own = _WORDS[channel] if channel else _MIXED
    vocabularies = zip(own, _PLACES, _TIMES, _DEVICES, strict=True)
    fitting = [set(name.split()) <= set(" ".join(words).split()) for words in vocabularies]
    return fitting[audience] and sum(fitting) == 1
