"""Segments: the key that a context has under a segmentation, and the name of the segment for people."""

from collections.abc import Mapping, Sequence

from allocator.context import DIMENSIONS, UNKNOWN, is_attribute_name
from allocator.errors import InvalidFieldError
from allocator.limits import MAX_DIMENSIONS

GLOBAL = "global"
OTHER = "other"
GLOBAL_NUMBER = 0
OTHER_NUMBER = 1  # segments with a key of their own have the numbers from 2 on
_ATTRIBUTE_PREFIX = "attributes."
_CLUSTER_PREFIX = "cluster:"
_ESCAPES = {"%": "%25", "|": "%7C", ":": "%3A"}
# Dimensions whose values people understand without the name of the dimension.
_SELF_EXPLAINING = frozenset(
    ("channel", "source", "medium", "campaign", "device", "os", "browser", "country", "language", "day_of_week")
)
_SPELLINGS = {
    "chatgpt": "ChatGPT",
    "chrome os": "ChromeOS",
    "duckduckgo": "DuckDuckGo",
    "ios": "iOS",
    "linkedin": "LinkedIn",
    "mac os x": "macOS",
    "macos": "macOS",
    "tiktok": "TikTok",
    "whatsapp": "WhatsApp",
    "youtube": "YouTube",
}
_YES_NO = {
    ("is_weekend", "true"): "Weekend",
    ("is_weekend", "false"): "Weekday",
    ("returning", "true"): "Returning",
    ("returning", "false"): "New",
}


def check_dimensions(names: Sequence[str], path: str, *, most: int = MAX_DIMENSIONS) -> None:
    """Raise InvalidFieldError unless `names` are 1 to `most` known dimensions, each named once."""
    if not 1 <= len(names) <= most:
        raise InvalidFieldError.of(path, f"must name 1 to {most} dimensions")
    for index, name in enumerate(names):
        attribute = attribute_name(name)
        if name not in DIMENSIONS and (attribute == name or not is_attribute_name(attribute)):
            raise InvalidFieldError.of(
                f"{path}[{index}]",
                f"must be one of {', '.join(DIMENSIONS)}, or attributes.NAME; is {name[:70]!r}",
            )
        if name in names[:index]:
            raise InvalidFieldError.of(f"{path}[{index}]", f"must not be named twice; is {name[:70]!r}")


def attribute_name(dimension: str) -> str:
    """Return the name that a dimension has in contexts: custom attributes have no prefix there."""
    return dimension.removeprefix(_ATTRIBUTE_PREFIX)


def segment_key(segment_by: Sequence[str], dimensions: Mapping[str, str]) -> str:
    """Return the segment key of a context, such as "source:instagram|device:mobile"; "global" without dimensions.

    The values must be canonical, as those of contexts are.
    """
    if not segment_by:
        return GLOBAL
    names = (attribute_name(name) for name in segment_by)
    return "|".join(f"{name}:{_escape(dimensions.get(name, UNKNOWN))}" for name in names)


def parse_segment_key(key: str) -> dict[str, str]:
    """Return the canonical values by dimension name: the inverse of `segment_key`. "global" and "other" have none."""
    if key in (GLOBAL, OTHER):
        return {}
    pairs = (part.split(":", 1) for part in key.split("|"))
    return {name: _unescape(value) for name, value in pairs}


def cluster_key(number: int) -> str:
    """Return the segment key of a cluster, such as "cluster:3"."""
    return f"{_CLUSTER_PREFIX}{number}"


def cluster_segment(number: int) -> int:
    """Return the segment number of a cluster. It is the same under every model that has the cluster."""
    return OTHER_NUMBER + number


def parse_cluster_key(key: str) -> int | None:
    """Return the number of a cluster; None if the key is not that of a cluster."""
    number = key.removeprefix(_CLUSTER_PREFIX)
    return int(number) if number != key and number.isascii() and number.isdigit() and len(number) < 6 else None


def display_name(key: str, cluster_names: Mapping[str, str] | None = None) -> str:
    """Return the name of a segment for people, such as "Instagram · Mobile".

    A value that says little by itself keeps the name of its dimension.
    """
    if key in (GLOBAL, OTHER):
        return {GLOBAL: "Everyone", OTHER: "Other"}[key]
    if cluster_names and key in cluster_names:
        return cluster_names[key]
    return " · ".join(_label(name, value) for name, value in parse_segment_key(key).items())


def spelled(value: str) -> str:
    """Return a canonical value as people write it, such as "iOS" or "Paid Search"."""
    return _SPELLINGS.get(value, value.replace("_", " ").title())


def _label(name: str, value: str) -> str:
    if value == UNKNOWN or name not in _SELF_EXPLAINING:
        return _YES_NO.get((name, value), f"{name.replace('_', ' ')} {value}")
    if name in ("country", "language"):
        return value.upper()
    return spelled(value)


def _escape(value: str) -> str:
    for character, escape in _ESCAPES.items():
        if character in value:
            value = value.replace(character, escape)
    return value


def _unescape(value: str) -> str:
    for character, escape in reversed(_ESCAPES.items()):
        value = value.replace(escape, character)
    return value
