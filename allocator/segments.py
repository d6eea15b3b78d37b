"""Segments: the stable key that a context has under a segmentation, and its name for people."""

import unicodedata
from collections.abc import Mapping, Sequence

from allocator.context import DIMENSIONS, is_attribute_name
from allocator.errors import InvalidFieldError

GLOBAL = "global"
OTHER = "other"
UNKNOWN = "unknown"
GLOBAL_NUMBER = 0
OTHER_NUMBER = 1  # numbers of keyed segments follow
MAX_DIMENSIONS = 6
_ATTRIBUTE_PREFIX = "attributes."
_MAX_VALUE = 64
_ESCAPES = {"%": "%25", "|": "%7C", ":": "%3A"}


def check_segment_by(segment_by: Sequence[str], path: str) -> None:
    """Raise InvalidFieldError unless these are 1 to 6 different known dimensions."""
    if not 1 <= len(segment_by) <= MAX_DIMENSIONS:
        raise InvalidFieldError.of(path, f"must name 1 to {MAX_DIMENSIONS} dimensions in mode MANUAL")
    for index, name in enumerate(segment_by):
        attribute = name.removeprefix(_ATTRIBUTE_PREFIX)
        if name not in DIMENSIONS and (attribute == name or not is_attribute_name(attribute)):
            raise InvalidFieldError.of(
                f"{path}[{index}]",
                f"must be one of {', '.join(DIMENSIONS)}, or attributes.NAME; is {name!r}",
            )
        if name in segment_by[:index]:
            raise InvalidFieldError.of(f"{path}[{index}]", f"names {name!r} twice")


def segment_key(segment_by: Sequence[str], dimensions: Mapping[str, str]) -> str:
    """The key of a context, such as "source:instagram|device:mobile"; no dimensions give "global"."""
    if not segment_by:
        return GLOBAL
    names = (name.removeprefix(_ATTRIBUTE_PREFIX) for name in segment_by)
    return "|".join(f"{name}:{_canonical(dimensions.get(name, ''))}" for name in names)


def parse_segment_key(key: str) -> dict[str, str]:
    """The canonical values by dimension name: the inverse of `segment_key`. "global" and "other" have none."""
    if key in (GLOBAL, OTHER):
        return {}
    pairs = (part.split(":", 1) for part in key.split("|"))
    return {name: _unescape(value) for name, value in pairs}


def display_name(key: str) -> str:
    """The segment for people: "Instagram · Mobile"; values that say little alone keep their dimension's name."""
    if key in (GLOBAL, OTHER):
        return {GLOBAL: "Everyone", OTHER: "Other"}[key]
    return " · ".join(_label(name, value) for name, value in parse_segment_key(key).items())


def _label(name: str, value: str) -> str:
    if name in DIMENSIONS and value != UNKNOWN:
        return value.upper() if name in ("country", "language") else value.title()
    return f"{name} {value}"


def _canonical(value: str) -> str:
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", value).lower()).strip()[:_MAX_VALUE].strip()
    return "".join(_ESCAPES.get(character, character) for character in folded) or UNKNOWN


def _unescape(value: str) -> str:
    for character, escape in reversed(_ESCAPES.items()):
        value = value.replace(escape, character)
    return value
