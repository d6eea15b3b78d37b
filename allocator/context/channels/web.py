"""The fields and dimensions of a user on a web page."""

from collections.abc import Sequence
from typing import NamedTuple

from allocator.context.canonical import canonical
from allocator.context.check import Check
from allocator.context.traffic import traffic
from allocator.context.user_agent import UserAgent, parse_user_agent

_MAX_PATH = 2_048


class Web(NamedTuple):
    """The fields of WebContext. Empty means unknown."""

    utm_source: str = ""
    utm_medium: str = ""
    utm_campaign: str = ""
    utm_content: str = ""
    utm_term: str = ""
    referrer: str = ""
    landing_path: str = ""
    click_ids: Sequence[str] = ()
    user_agent: str = ""
    device: str = ""
    country_code: str = ""
    region: str = ""
    language: str = ""
    time_zone: str = ""
    returning: bool | None = None


def web_dimensions(web: Web, check: Check) -> tuple[dict[str, str], UserAgent]:
    """Return the dimensions, of which the unknown ones are empty, and the parsed user agent."""
    agent = parse_user_agent(web.user_agent)
    came = traffic(web.utm_source, web.utm_medium, web.click_ids, web.referrer)
    return {
        "channel": "web",
        "source": came.source,
        "medium": came.medium,
        "campaign": canonical(web.utm_campaign),
        "content": canonical(web.utm_content),
        "term": canonical(web.utm_term),
        "landing_path": canonical(web.landing_path[:_MAX_PATH].partition("?")[0].partition("#")[0]),
        "device": check.device(web.device) or agent.device,
        "os": agent.os,
        "browser": agent.browser,
        "country": check.country(web.country_code),
        "region": check.text("region", web.region),
        "language": check.language(web.language),
        "returning": "" if web.returning is None else str(web.returning).lower(),
    }, agent
