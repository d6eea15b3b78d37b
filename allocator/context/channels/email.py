"""The fields and dimensions of the recipient of an e-mail."""

from typing import NamedTuple

from allocator.context.bins import COUNTS, DAYS, SCORES
from allocator.context.check import Check
from allocator.context.user_agent import parse_user_agent


class Email(NamedTuple):
    """The fields of EmailContext. Empty and None mean unknown."""

    list_id: str = ""
    campaign_id: str = ""
    engagement_score: float | None = None
    previous_opens: int | None = None
    previous_clicks: int | None = None
    days_since_last_open: float | None = None
    provider: str = ""
    user_agent: str = ""
    country_code: str = ""
    language: str = ""
    time_zone: str = ""


def email_dimensions(email: Email, check: Check) -> dict[str, str]:
    """Return the dimensions; the unknown ones are empty."""
    agent = parse_user_agent(email.user_agent)
    return {
        "channel": "email",
        "source": "email",
        "medium": "email",
        "campaign": check.text("campaign_id", email.campaign_id),
        "list": check.text("list_id", email.list_id),
        "provider": check.text("provider", email.provider),
        "engagement_score": SCORES.label(check.share("engagement_score", email.engagement_score)),
        "previous_opens": COUNTS.label(email.previous_opens),
        "previous_clicks": COUNTS.label(email.previous_clicks),
        "days_since_last_open": DAYS.label(check.amount("days_since_last_open", email.days_since_last_open)),
        "device": agent.device,
        "os": agent.os,
        "browser": agent.browser,
        "country": check.country(email.country_code),
        "language": check.language(email.language),
    }
