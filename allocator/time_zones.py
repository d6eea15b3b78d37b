"""Time zones by their IANA names."""

from functools import cache, lru_cache
from importlib.resources import files
from zoneinfo import ZoneInfo


@cache
def time_zones() -> frozenset[str]:
    """Return the names of all IANA time zones.

    A machine may know more names, such as "localtime" and "posix/UTC". These mean something else elsewhere, or nothing.
    """
    return frozenset((files("tzdata") / "zones").read_text().split())


@lru_cache(maxsize=1_024)
def time_zone_or_utc(name: str) -> ZoneInfo:
    """Return a time zone, or UTC if this machine does not know it."""
    try:
        return ZoneInfo(name)
    except (OSError, LookupError, ValueError):  # no such file, no such name, not a name
        return ZoneInfo("UTC")
