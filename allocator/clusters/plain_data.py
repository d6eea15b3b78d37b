"""Features as plain data and back: dicts of texts, numbers and lists, for whoever stores them. Checked on reading."""

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, fields
from typing import Any

from allocator.clusters.features import Category, Cycle, Feature, Number, Ordinal

_KINDS: Mapping[str, type[Feature]] = {"category": Category, "cycle": Cycle, "ordinal": Ordinal, "number": Number}


def feature_to_plain(feature: Feature) -> dict[str, Any]:
    """The fields, and which kind of feature they are of."""
    kind = next(kind for kind, type_ in _KINDS.items() if isinstance(feature, type_))
    return {"kind": kind} | {key: list(v) if isinstance(v, tuple) else v for key, v in asdict(feature).items()}


def feature_from_plain(plain: object) -> Feature:
    """The inverse of `feature_to_plain`. Raises ValueError if it is not one that `fit_encoder` could have made."""
    given = dict(mapping(plain))
    kind = _KINDS.get(text(given.pop("kind", None)))
    if kind is None or given.keys() != {field.name for field in fields(kind)}:
        raise ValueError("a feature is of no known kind")
    feature = kind(**{field.name: _READERS[field.type](given[field.name]) for field in fields(kind)})
    if not feature.weight > 0 or len(feature.neutral) != feature.width:
        raise ValueError(f"the feature {feature.name[:70]!r} does not fit its columns")
    if len(set(feature.values)) != len(feature.values):
        raise ValueError(f"the feature {feature.name[:70]!r} has a value twice")
    if isinstance(feature, Cycle | Ordinal) and len(feature.values) < 2:
        raise ValueError(f"the feature {feature.name[:70]!r} has too few values")
    if isinstance(feature, Number) and not 0 < feature.high - feature.low < math.inf:
        raise ValueError(f"the feature {feature.name[:70]!r} has no scale")
    return feature


def mapping(value: object) -> Mapping[str, Any]:
    """A dict with texts for keys, or ValueError."""
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise ValueError("expected a mapping")
    return value


def items(value: object) -> list[Any]:
    """A list or tuple, or ValueError."""
    if not isinstance(value, list | tuple):
        raise ValueError("expected a list")
    return list(value)


def text(value: object) -> str:
    """A text, or ValueError."""
    if not isinstance(value, str):
        raise ValueError("expected a text")
    return value


def whole(value: object) -> int:
    """An integer, or ValueError."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError("expected an integer")
    return value


def finite(value: object) -> float:
    """A finite number, or ValueError."""
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
        raise ValueError("expected a finite number")
    return float(value)


_READERS: Mapping[Any, Callable[[object], Any]] = {
    str: text,
    float: finite,
    tuple[str, ...]: lambda value: tuple(map(text, items(value))),
    tuple[float, ...]: lambda value: tuple(map(finite, items(value))),
}
