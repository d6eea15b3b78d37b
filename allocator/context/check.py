"""Checks of what the caller knows for itself. What strangers send along (URLs, headers) is cut to size instead."""

import re
from functools import cache
from importlib.resources import files

from allocator.context.canonical import canonical
from allocator.context.user_agent import DEVICES
from allocator.errors import Violation

MAX_TEXT = 256
_COUNTRY = re.compile(r"[A-Za-z][A-Za-z0-9]")
_LANGUAGE = re.compile(r"([A-Za-z]{2,8})(?:[-_][A-Za-z0-9]{1,8})*")
_KOSOVO = "XK"  # not in ISO 3166, but in use


class Check:
    """Collects what is wrong with the fields under one path."""

    def __init__(self, path: str) -> None:
        """Nothing is wrong yet."""
        self._path = path
        self.violations: list[Violation] = []

    def text(self, name: str, value: str) -> str:
        """A canonical text."""
        if len(value) > MAX_TEXT:
            self.wrong(name, f"must have at most {MAX_TEXT} characters, has {len(value)}")
        return canonical(value)

    def share(self, name: str, value: float | None) -> float | None:
        """A number from 0 to 1."""
        if value is not None and not 0 <= value <= 1:
            self.wrong(name, f"must be 0 to 1, is {value:g}")
        return value

    def amount(self, name: str, value: float | None) -> float | None:
        """A number that is not negative."""
        if value is not None and not 0 <= value < float("inf"):
            self.wrong(name, f"must be 0 or more, is {value:g}")
        return value

    def device(self, value: str) -> str:
        """A device class."""
        if value and value not in DEVICES:
            self.wrong("device", f"must be one of {', '.join(DEVICES)}")
        return value

    def country(self, value: str) -> str:
        """A country in lower case; empty for codes of no country, such as "XX" or "T1"."""
        if not value:
            return ""
        if not _COUNTRY.fullmatch(value):
            self.wrong("country_code", 'must be an ISO 3166-1 code of two letters, such as "BR"')
        code = value.upper()
        return code.lower() if code in countries() else ""

    def language(self, value: str) -> str:
        """The primary subtag."""
        if not value:
            return ""
        match = _LANGUAGE.fullmatch(value)
        if match is None:
            self.wrong("language", 'must be a BCP 47 tag, such as "pt-BR"')
            return ""
        return match[1].lower()

    def time_zone(self, value: str) -> str:
        """An IANA name, or empty."""
        if value and value not in time_zones():
            self.wrong("time_zone", f'must be an IANA time zone such as "America/Sao_Paulo", is {value[:70]!r}')
            return ""
        return value

    def wrong(self, name: str, description: str) -> None:
        """Add one."""
        self.violations.append(Violation(f"{self._path}.{name}", description))


@cache
def countries() -> frozenset[str]:
    """ISO 3166-1 codes, as the time zone database lists them."""
    lines = (files("tzdata.zoneinfo") / "iso3166.tab").read_text().splitlines()
    return frozenset(line[:2] for line in lines if not line.startswith("#")) | {_KOSOVO}


@cache
def time_zones() -> frozenset[str]:
    """IANA names."""
    return frozenset((files("tzdata") / "zones").read_text().split())
