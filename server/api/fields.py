"""Checks of single fields, which the services share. Violations are collected, so that an answer names all of them."""

import re
from datetime import UTC, datetime, timedelta

from google.protobuf.timestamp_pb2 import Timestamp

from allocator.errors import InvalidFieldError, Violation
from allocator.printable import has_controls

MOST_IDENTIFIER = 256  # characters of a user's
_MOST_PAST = timedelta(days=7)
_MOST_FUTURE = timedelta(minutes=5)
_SLUG = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
_METRIC = re.compile(r"[a-z][a-z0-9_]{0,62}")


class Fields:
    """Collects violations; `check` raises them together."""

    def __init__(self) -> None:
        self.violations: list[Violation] = []

    def wrong(self, field: str, description: str) -> None:
        """Add a violation."""
        self.violations.append(Violation(field, description))

    def check(self) -> None:
        """Raise InvalidFieldError if there are violations."""
        if self.violations:
            raise InvalidFieldError(self.violations)

    def text(self, field: str, value: str, *, least: int = 0, most: int) -> str:
        """Return a checked text: its length in characters is in bounds, and it has no NUL."""
        if not least <= len(value) <= most:
            limits = f"1 to {most}" if least else f"at most {most}"
            self.wrong(field, f"must have {limits} characters, has {len(value)}")
        elif "\0" in value:
            self.wrong(field, "must not contain NUL")
        return value

    def name(self, field: str, value: str, *, least: int = 0, most: int, breaks: bool = False) -> str:
        """Return a checked text for people, as `text`, without control characters. `breaks` allows line breaks."""
        self.text(field, value, least=least, most=most)
        if "\0" not in value and has_controls(value, breaks=breaks):
            self.wrong(field, "must not contain control characters, nor those that change the direction of text")
        return value

    def slug(self, field: str, value: str) -> str:
        """Return a checked id of the caller's choice."""
        if not is_slug(value):
            self.wrong(field, f"must be [a-z0-9][a-z0-9_-]{{0,62}}, is {value[:70]!r}")
        return value

    def metric(self, field: str, value: str) -> str:
        """Return a checked name of a metric. Empty means "conversion"."""
        name = value or "conversion"
        if not _METRIC.fullmatch(name):
            self.wrong(field, f"must be [a-z][a-z0-9_]{{0,62}}, is {value[:70]!r}")
        return name

    def event_time(self, field: str, stamp: Timestamp | None, now: datetime) -> datetime:
        """Return a checked time near now. None means now."""
        if stamp is None:
            return now
        try:
            at = stamp.ToDatetime(UTC)
        except (ValueError, OverflowError):
            at = datetime.max.replace(tzinfo=UTC)
        if not now - _MOST_PAST <= at <= now + _MOST_FUTURE:
            self.wrong(field, "must be at most 7 days past and 5 minutes future")
        return at

    def time(self, field: str, stamp: Timestamp | None) -> datetime | None:
        """Return a checked time, or None."""
        try:
            return None if stamp is None else stamp.ToDatetime(UTC)
        except (ValueError, OverflowError):
            self.wrong(field, "must be a time of the years 1 to 9999")
            return None


def is_slug(value: str) -> bool:
    """Return whether a text can be an id."""
    return _SLUG.fullmatch(value) is not None


def check_slug(field: str, value: str) -> str:
    """Return a checked id. Raises InvalidFieldError."""
    fields = Fields()
    fields.slug(field, value)
    fields.check()
    return value
