"""Features as plain data (dicts of texts, numbers and lists) and back, for storage. They are checked when read."""

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, fields
from typing import Any

from allocator.clusters.features import Category, Cycle, Feature, Number, Ordinal

_KINDS: Mapping[str, type[Feature]] = {"category": Category, "cycle": Cycle, "ordinal": Ordinal, "number": Number}


def feature_to_plain(feature: Feature) -> dict[str, Any]:
    """Return the fields of a feature, and its kind."""
    kind = next(kind for kind, type_ in _KINDS.items() if isinstance(feature, type_))
    return {"kind": kind} | {key: list(v) if isinstance(v, tuple) else v for key, v in asdict(feature).items()}


def feature_from_plain(plain: object) -> Feature:
    """Return the feature that `feature_to_plain` gave. Raise ValueError if `fit_encoder` cannot have made it."""
    given = dict(mapping(plain))
    kind = _KINDS.get(text(given.pop("kind", None)))
    if kind is None or given.keys() != {field.name for field in fields(kind)}:
        raise ValueError("a feature has an unknown kind, or not the fields of its kind")
    feature = kind(**{field.name: _READERS[field.type](given[field.name]) for field in fields(kind)})
    if not feature.weight > 0 or len(feature.neutral) != feature.width:
        raise ValueError(f"the feature {feature.name[:70]!r} does not fit its columns")
    if len(set(feature.values)) != len(feature.values):
        raise ValueError(f"two values of the feature {feature.name[:70]!r} are the same")
    if isinstance(feature, Cycle | Ordinal) and len(feature.values) < 2:
        raise ValueError(f"the feature {feature.name[:70]!r} has too few values")
    if isinstance(feature, Number) and not 0 < feature.high - feature.low < math.inf:
        raise ValueError(f"the feature {feature.name[:70]!r} has no scale from low to high")
    return feature


def mapping(value: object) -> Mapping[str, Any]:
    """Return a dict whose keys are texts. Raise ValueError if it is anything else."""
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise ValueError("expected a mapping")
    return value


def items(value: object) -> list[Any]:
    """Return a list or tuple as a list. Raise ValueError if it is anything else."""
    if not isinstance(value, list | tuple):
        raise ValueError("expected a list")
    return list(value)


def text(value: object) -> str:
    """Return a text. Raise ValueError if it is anything else."""
    if not isinstance(value, str):
        raise ValueError("expected a text")
    return value


def whole(value: object) -> int:
    """Return an integer. Raise ValueError if it is anything else."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError("expected an integer")
    return value


def finite(value: object) -> float:
    """Return a finite number. Raise ValueError if it is anything else."""
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
        raise ValueError("expected a finite number")
    return float(value)


_READERS: Mapping[Any, Callable[[object], Any]] = {
    str: text,
    float: finite,
    tuple[str, ...]: lambda value: tuple(map(text, items(value))),
    tuple[float, ...]: lambda value: tuple(map(finite, items(value))),
}
