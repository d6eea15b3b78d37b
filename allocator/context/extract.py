"""Extraction of the context: fields of any channel become dimensions, which are the same for all channels."""

from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache

import msgspec

from allocator.context.canonical import canonical
from allocator.context.channels.email import Email, email_dimensions
from allocator.context.channels.funnel import Funnel, funnel_dimensions
from allocator.context.channels.push import Push, push_dimensions
from allocator.context.channels.web import Web, web_dimensions
from allocator.context.check import MAX_TEXT, Check, countries
from allocator.context.dimensions import MAX_ATTRIBUTES, is_attribute_name
from allocator.errors import InvalidFieldError, Violation
from allocator.time_zones import time_zone_or_utc, time_zones

DAYS_OF_WEEK = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_QUARTER = 900  # seconds
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC).toordinal()


class Context(msgspec.Struct, frozen=True, gc=False):
    """The canonical values of the known dimensions and custom attributes by name; and whether the user is a bot."""

    dimensions: Mapping[str, str]
    is_bot: bool = False


def extract(
    channel: Web | Email | Funnel | Push | None, attributes: Mapping[str, str], at: int, time_zone: str
) -> Context:
    """Return the context of one user.

    Args:
        channel: the fields of the user's channel, if any.
        attributes: custom dimensions.
        at: the time in Unix seconds.
        time_zone: used if that of the user is not known.

    Raises:
        InvalidFieldError: names every field that is not acceptable.
    """
    if channel is None and not attributes:
        return Context(_quarter(at // _QUARTER, time_zone)[1])
    dimensions: dict[str, str] = {}
    violations: list[Violation] = []
    is_bot = False
    if channel is not None:
        check = Check(type(channel).__name__.lower())
        match channel:
            case Web():
                dimensions, agent = web_dimensions(channel, check)
                is_bot = agent.is_bot
            case Email():
                # Proxies fetch mail, so the user agent does not say whether the user is a bot.
                dimensions = email_dimensions(channel, check)
            case Funnel():
                dimensions, agent = funnel_dimensions(channel, check)
                is_bot = agent.is_bot
            case Push():
                dimensions = push_dimensions(channel, check)
        time_zone = check.time_zone(channel.time_zone) or time_zone
        violations = check.violations
    dimensions.update(_quarter(at // _QUARTER, time_zone)[1])
    if attributes:
        dimensions.update(_attributes(attributes, violations))
    if violations:
        raise InvalidFieldError(violations)
    return Context({name: value for name, value in dimensions.items() if value}, is_bot)


def load_tables() -> None:
    """Read the lists of countries and time zones, so that no call has to wait for them."""
    countries()
    time_zones()


def day_number(seconds: int, time_zone: str) -> int:
    """Return the number of the day since 1970, in a time zone, at a time in Unix seconds."""
    return _quarter(seconds // _QUARTER, time_zone)[0]


@lru_cache(maxsize=4_096)
def _quarter(quarter: int, time_zone: str) -> tuple[int, Mapping[str, str]]:
    """Return the day and the time dimensions of a quarter of an hour. All time zones differ by whole quarters."""
    local = datetime.fromtimestamp(quarter * _QUARTER, time_zone_or_utc(time_zone))
    day = local.weekday()
    return local.toordinal() - _EPOCH, {
        "hour": str(local.hour),
        "day_of_week": DAYS_OF_WEEK[day],
        "is_weekend": "true" if day >= 5 else "false",
    }


def _attributes(attributes: Mapping[str, str], violations: list[Violation]) -> dict[str, str]:
    if len(attributes) > MAX_ATTRIBUTES:
        violations.append(Violation("attributes", f"must have at most {MAX_ATTRIBUTES} entries, has {len(attributes)}"))
    for name, value in attributes.items():
        path = f"attributes[{name[:70]!r}]"
        if not is_attribute_name(name):
            problem = "must have a name [a-z][a-z0-9_]{0,62} that is not that of a built-in dimension"
            violations.append(Violation(path, problem))
        if len(value) > MAX_TEXT:
            violations.append(Violation(path, f"must have at most {MAX_TEXT} characters, has {len(value)}"))
        if "\0" in value:
            violations.append(Violation(path, "must not contain NUL"))
    return {name: canonical(value) for name, value in attributes.items()}
