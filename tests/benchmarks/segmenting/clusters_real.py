"""Clusters of two public data sets: how many, their names, and whether other users give the same clusters."""

import csv
import gzip
import io
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial

import numpy as np
from sklearn.metrics import adjusted_rand_score

from allocator.clusters import Training, train
from allocator.context import canonical
from tests.benchmarks.row import Row
from tests.support.data import data_file

_SHOPPERS, _HILLSTROM = "abtests/online_shoppers_intention.csv", "abtests/hillstrom_dev.csv.gz"
_REPETITIONS = 10
_SUBSAMPLE = 0.8
Contexts = Sequence[Mapping[str, str]]


def rows() -> list[Row]:
    """Measure what is found, and how it agrees with the clusters of other seeds and other users."""
    with ProcessPoolExecutor() as pool:
        return [row for name, read in _SETS.items() if data_file(name) for row in _found(name, read(), pool)]


def _shoppers() -> Contexts:
    """Return sessions of a shop, without outcomes: whether they bought, and page values computed from that."""
    return [
        {
            "administrative": line["Administrative"],
            "administrative_seconds": line["Administrative_Duration"],
            "informational": line["Informational"],
            "informational_seconds": line["Informational_Duration"],
            "product": line["ProductRelated"],
            "product_seconds": line["ProductRelated_Duration"],
            "bounce_rate": line["BounceRates"],
            "exit_rate": line["ExitRates"],
            "special_day": line["SpecialDay"],
            "month": canonical(line["Month"]),
            "system": f"system {line['OperatingSystems']}",  # codes without an order
            "client": f"client {line['Browser']}",
            "area": f"area {line['Region']}",
            "traffic": f"traffic {line['TrafficType']}",
            "visitor": canonical(line["VisitorType"]),
            "weekend": canonical(line["Weekend"]),
        }
        for line in _lines(_SHOPPERS, ";")
    ]


def _customers() -> Contexts:
    """Return customers as they were before some were sent an e-mail."""
    names = {"recency", "history_segment", "history", "mens", "womens", "zip_code", "newbie"}
    return [
        {name: canonical(line[name]) for name in names} | {"bought_by": canonical(line["channel"])}
        for line in _lines(_HILLSTROM, ",")
    ]


_SETS: Mapping[str, Callable[[], Contexts]] = {_SHOPPERS: _shoppers, _HILLSTROM: _customers}


def _lines(name: str, separator: str) -> list[dict[str, str]]:
    path = data_file(name)
    assert path is not None
    stored = path.read_bytes()
    text = (gzip.decompress(stored) if path.suffix == ".gz" else stored).decode()
    return list(csv.DictReader(io.StringIO(text), delimiter=separator))


def _found(name: str, contexts: Contexts, pool: ProcessPoolExecutor) -> list[Row]:
    training = train(contexts)
    labels = training.model.label(contexts)
    other_seeds = list(pool.map(partial(_other_seed, contexts), range(1, _REPETITIONS + 1)))
    other_users = list(pool.map(partial(_other_users, contexts), range(_REPETITIONS)))
    what = name.removeprefix("abtests/").partition(".")[0]
    return [_clusters(what, training)] + [
        _agreement(f"{what}: {how}", labels, others)
        for how, others in (("another seed", other_seeds), (f"{_SUBSAMPLE:.0%} of the users", other_users))
    ]


def _clusters(what: str, training: Training) -> Row:
    quality, users = training.quality, sum(training.sizes)
    named = ", ".join(
        f"{training.names[number]} {size / users:.0%}"
        for number, size in zip(training.model.numbers, training.sizes, strict=True)
    )
    return Row(
        figure=f"{what}: {users:,} users",
        reference=f"gap {quality.gap:.3f} (SE {quality.gap_error:.3f})",
        ours=f"K = {len(training.sizes)}: {named}",
        ratio=quality.silhouette,
        spread=f"silhouette {quality.silhouette:.3f}, prediction strength {quality.strength:.2f}",
        goal="names differ",
        holds=len(set(training.names.values())) == len(training.sizes),
    )


def _agreement(figure: str, labels: np.ndarray, others: Sequence[np.ndarray]) -> Row:
    rands = np.array([adjusted_rand_score(labels, other) for other in others])
    clusters = sorted({len(np.unique(other)) for other in others})
    return Row(
        figure=figure,
        reference="1 is the same",
        ours=f"adjusted Rand {rands.mean():.3f} on average",
        ratio=float(rands.min()),
        spread=f"{rands.min():.3f} to {rands.max():.3f}, K {', '.join(map(str, clusters))}, {len(rands)} trainings",
        goal="-",
        holds=True,
    )


def _other_seed(contexts: Contexts, seed: int) -> np.ndarray:
    return train(contexts, seed=seed).model.label(contexts)


def _other_users(contexts: Contexts, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    drawn = np.sort(rng.choice(len(contexts), int(_SUBSAMPLE * len(contexts)), replace=False))
    return train([contexts[row] for row in drawn]).model.label(contexts)
