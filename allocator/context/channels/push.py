"""The fields and dimensions of the recipient of a push notification."""

import re
from typing import NamedTuple

from allocator.context.bins import COUNTS, DAYS
from allocator.context.check import Check

_DEVICES = {"ios": "mobile", "android": "mobile", "web": "", "macos": "desktop", "windows": "desktop", "other": ""}
_NO_SYSTEM = ("web", "other")
_VERSION = re.compile(r"\d+(?:\.\d+)?")


class Push(NamedTuple):
    """The fields of PushContext. Empty and None mean unknown."""

    platform: str = ""
    app_version: str = ""
    opt_in_days: float | None = None
    previous_opens: int | None = None
    country_code: str = ""
    language: str = ""
    time_zone: str = ""


def push_dimensions(push: Push, check: Check) -> dict[str, str]:
    """Return the dimensions; the unknown ones are empty."""
    platform = push.platform.lower()
    if platform and platform not in _DEVICES:
        check.wrong("platform", f"must be one of {', '.join(_DEVICES)}")
    version = check.text("app_version", push.app_version)
    numbers = _VERSION.match(version)
    return {
        "channel": "push",
        "source": "push",
        "medium": "push",
        "device": _DEVICES.get(platform, ""),
        "os": "" if platform in _NO_SYSTEM else platform,
        "app_version": numbers[0] if numbers else version,
        "opt_in_days": DAYS.label(check.amount("opt_in_days", push.opt_in_days)),
        "previous_opens": COUNTS.label(push.previous_opens),
        "country": check.country(push.country_code),
        "language": check.language(push.language),
    }
