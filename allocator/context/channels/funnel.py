"""The fields and dimensions of a user in a funnel."""

from collections.abc import Sequence
from typing import NamedTuple

from allocator.context.bins import MINUTES, MONEY, SCORES, STAGES
from allocator.context.check import Check
from allocator.context.user_agent import UserAgent, parse_user_agent

_MOST_STAGES = 32


class Funnel(NamedTuple):
    """The fields of FunnelContext. Empty and None mean unknown."""

    funnel_id: str = ""
    current_stage: str = ""
    drop_risk: float | None = None
    minutes_in_funnel: float | None = None
    previous_stages: Sequence[str] = ()
    cart_value: float | None = None
    user_agent: str = ""
    device: str = ""
    country_code: str = ""
    language: str = ""
    time_zone: str = ""


def funnel_dimensions(funnel: Funnel, check: Check) -> tuple[dict[str, str], UserAgent]:
    """Return the dimensions, of which the unknown ones are empty, and the parsed user agent."""
    agent = parse_user_agent(funnel.user_agent)
    if len(funnel.previous_stages) > _MOST_STAGES:
        check.wrong("previous_stages", f"must have at most {_MOST_STAGES} entries, has {len(funnel.previous_stages)}")
    return {
        "channel": "funnel",
        "funnel": check.text("funnel_id", funnel.funnel_id),
        "stage": check.text("current_stage", funnel.current_stage),
        "drop_risk": SCORES.label(check.share("drop_risk", funnel.drop_risk)),
        "minutes_in_funnel": MINUTES.label(check.amount("minutes_in_funnel", funnel.minutes_in_funnel)),
        "previous_stages": STAGES.label(len(funnel.previous_stages)),
        "cart_value": MONEY.label(check.amount("cart_value", funnel.cart_value)),
        "device": check.device(funnel.device) or agent.device,
        "os": agent.os,
        "browser": agent.browser,
        "country": check.country(funnel.country_code),
        "language": check.language(funnel.language),
    }, agent
