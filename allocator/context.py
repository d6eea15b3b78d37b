"""Contexts: what is known of a user at the moment of the decision, as dimensions.

A dimension that is not known is absent. Values here are as the caller gave them, trimmed and in a canonical case;
segment keys escape them (allocator.segments).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from user_agents import parse

from allocator.errors import InvalidFieldError, Violation

DIMENSIONS = (
    "source",
    "medium",
    "campaign",
    "device",
    "os",
    "browser",
    "country",
    "language",
    "channel",
)
# Names that later releases give a meaning: no custom attribute may take them.
_RESERVED = frozenset(DIMENSIONS) | {
    "hour",
    "day_of_week",
    "is_weekend",
    "is_bot",
    "global",
    "cluster",
    "other",
}
DEVICES = ("mobile", "tablet", "desktop", "other")
MAX_ATTRIBUTES = 32
_MAX_VALUE = 256
_MAX_USER_AGENT = 2048
_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")
_COUNTRY = re.compile(r"[A-Za-z]{2}")
_LANGUAGE = re.compile(r"([A-Za-z]{2,8})(?:[-_][A-Za-z0-9]{1,8})*")


@dataclass(frozen=True)
class Web:
    """What the caller knows of a user on a web page; fields as in WebContext, empty is unknown."""

    utm_source: str = ""
    utm_medium: str = ""
    utm_campaign: str = ""
    user_agent: str = ""
    device: str = ""
    country_code: str = ""
    language: str = ""


@dataclass(frozen=True)
class Context:
    """Known dimensions by name, custom attributes included, and whether the user is a bot."""

    dimensions: Mapping[str, str]
    is_bot: bool = False


@dataclass(frozen=True)
class _UserAgent:
    device: str
    os: str
    browser: str
    is_bot: bool


def is_attribute_name(name: str) -> bool:
    """Whether a custom dimension may have this name."""
    return _NAME.fullmatch(name) is not None and name not in _RESERVED


def extract(web: Web | None, attributes: Mapping[str, str]) -> Context:
    """The context of one user. Raises InvalidFieldError naming every field at fault."""
    violations: list[Violation] = []
    dimensions: dict[str, str] = {}
    is_bot = False
    if web is not None:
        _check_web(web, violations)
        if not violations:
            agent = _parse_user_agent(web.user_agent)
            is_bot = agent.is_bot
            dimensions = {
                "source": web.utm_source.strip(),
                "medium": web.utm_medium.strip(),
                "campaign": web.utm_campaign.strip(),
                "device": web.device or agent.device,
                "os": agent.os,
                "browser": agent.browser,
                "country": web.country_code.upper(),
                "language": re.split("[-_]", web.language)[0].lower(),
                "channel": "web",
            }
    dimensions.update(_checked_attributes(attributes, violations))
    if violations:
        raise InvalidFieldError(violations)
    return Context({name: value for name, value in dimensions.items() if value}, is_bot)


def _check_web(web: Web, violations: list[Violation]) -> None:
    for name in ("utm_source", "utm_medium", "utm_campaign"):
        _check_text(f"web.{name}", getattr(web, name), _MAX_VALUE, violations)
    _check_text("web.user_agent", web.user_agent, _MAX_USER_AGENT, violations)
    if web.device and web.device not in DEVICES:
        violations.append(Violation("web.device", f"must be one of {', '.join(DEVICES)}"))
    if web.country_code and not _COUNTRY.fullmatch(web.country_code):
        violations.append(Violation("web.country_code", 'must be two letters, such as "BR"'))
    if web.language and not _LANGUAGE.fullmatch(web.language):
        violations.append(Violation("web.language", 'must be a BCP 47 tag, such as "pt-BR"'))


def _checked_attributes(attributes: Mapping[str, str], violations: list[Violation]) -> Mapping[str, str]:
    if len(attributes) > MAX_ATTRIBUTES:
        violations.append(Violation("attributes", f"must have at most {MAX_ATTRIBUTES} entries, has {len(attributes)}"))
    for name, value in attributes.items():
        path = f"attributes[{name!r}]"
        if not is_attribute_name(name):
            violations.append(Violation(path, "must be named [a-z][a-z0-9_]{0,62}, and not like a built-in dimension"))
        _check_text(path, value, _MAX_VALUE, violations)
    return {name: value.strip() for name, value in attributes.items()}


def _check_text(path: str, value: str, limit: int, violations: list[Violation]) -> None:
    if len(value) > limit:
        violations.append(Violation(path, f"must have at most {limit} characters, has {len(value)}"))
    if "\0" in value:
        violations.append(Violation(path, "must not contain NUL"))


@lru_cache(maxsize=16_384)
def _parse_user_agent(text: str) -> _UserAgent:
    if not text:
        return _UserAgent("", "", "", is_bot=False)
    agent = parse(text)
    device = "tablet" if agent.is_tablet else "mobile" if agent.is_mobile else "desktop" if agent.is_pc else "other"
    return _UserAgent(device, agent.os.family, agent.browser.family, agent.is_bot)
