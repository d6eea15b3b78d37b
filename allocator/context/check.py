"""Checks of fields that the caller fills in itself. Texts that browsers send (URLs, headers) are cut instead."""

import re
from functools import cache
from importlib.resources import files

from allocator.context.canonical import canonical
from allocator.context.user_agent import DEVICES
from allocator.errors import Violation
from allocator.time_zones import time_zones

MAX_TEXT = 256
_COUNTRY = re.compile(r"[A-Za-z][A-Za-z0-9]")
_LANGUAGE = re.compile(r"([A-Za-z]{2,8})(?:[-_][A-Za-z0-9]{1,8})*")
_KOSOVO = "XK"  # not in ISO 3166, but in use


class Check:
    """Checks the fields under one path, and collects what is wrong with them."""

    def __init__(self, path: str) -> None:
        self._path = path
        self.violations: list[Violation] = []

    def text(self, name: str, value: str) -> str:
        """Check the length of a text, and return the canonical text."""
        if len(value) > MAX_TEXT:
            self.wrong(name, f"must have at most {MAX_TEXT} characters, has {len(value)}")
        return canonical(value)

    def share(self, name: str, value: float | None) -> float | None:
        """Check that a number is from 0 to 1."""
        if value is not None and not 0 <= value <= 1:
            self.wrong(name, f"must be 0 to 1, is {value:g}")
        return value

    def amount(self, name: str, value: float | None) -> float | None:
        """Check that a number is finite and not negative."""
        if value is not None and not 0 <= value < float("inf"):
            self.wrong(name, f"must be 0 or more, is {value:g}")
        return value

    def device(self, value: str) -> str:
        """Check that a text is one of DEVICES, or empty."""
        if value and value not in DEVICES:
            self.wrong("device", f"must be one of {', '.join(DEVICES)}")
        return value

    def country(self, value: str) -> str:
        """Check a country code, and return it in lower case; empty if no country has it, such as "XX" or "T1"."""
        if not value:
            return ""
        if not _COUNTRY.fullmatch(value):
            self.wrong("country_code", 'must be an ISO 3166-1 code of two letters, such as "BR"')
        code = value.upper()
        return code.lower() if code in countries() else ""

    def language(self, value: str) -> str:
        """Check a language tag, and return its primary subtag in lower case."""
        if not value:
            return ""
        match = _LANGUAGE.fullmatch(value)
        if match is None:
            self.wrong("language", 'must be a BCP 47 tag, such as "pt-BR"')
            return ""
        return match[1].lower()

    def time_zone(self, value: str) -> str:
        """Check that a text is an IANA time zone, or empty."""
        if value and value not in time_zones():
            self.wrong("time_zone", f'must be an IANA time zone such as "America/Sao_Paulo", is {value[:70]!r}')
            return ""
        return value

    def wrong(self, name: str, description: str) -> None:
        """Add a violation of the field `name`."""
        self.violations.append(Violation(f"{self._path}.{name}", description))


@cache
def countries() -> frozenset[str]:
    """Return the ISO 3166-1 codes of all countries, as the time zone database lists them."""
    lines = (files("tzdata.zoneinfo") / "iso3166.tab").read_text().splitlines()
    return frozenset(line[:2] for line in lines if not line.startswith("#")) | {_KOSOVO}
