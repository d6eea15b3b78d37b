"""Contexts from web fields and attributes."""

import pytest

from allocator.context import Web, extract
from allocator.errors import InvalidFieldError

IPHONE = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_4 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) "
    "Version/17.4 Mobile/15E148 Safari/604.1"
)
BOT = "Mozilla/5.0 (compatible; bingbot/2.0; +http://www.bing.com/bingbot.htm)"


def test_web_dimensions() -> None:
    context = extract(
        Web(utm_source=" ig ", utm_medium="paid", user_agent=IPHONE, country_code="br", language="pt-BR"), {"plan": "p"}
    )
    assert dict(context.dimensions) == {
        "source": "ig",
        "medium": "paid",
        "device": "mobile",
        "os": "iOS",
        "browser": "Mobile Safari",
        "country": "BR",
        "language": "pt",
        "channel": "web",
        "plan": "p",
    }
    assert not context.is_bot


def test_what_the_caller_knows_better_and_bots() -> None:
    assert extract(Web(user_agent=IPHONE, device="tablet"), {}).dimensions["device"] == "tablet"
    assert extract(Web(user_agent=BOT), {}).is_bot


def test_nothing_is_known() -> None:
    assert dict(extract(None, {}).dimensions) == {}
    assert dict(extract(Web(), {"plan": " "}).dimensions) == {"channel": "web"}


def test_everything_that_is_wrong_is_said_at_once() -> None:
    with pytest.raises(InvalidFieldError) as refused:
        extract(Web(country_code="1", device="phone"), {"Bad": "x", "plan": "\0"})
    assert [v.field for v in refused.value.violations] == [
        "web.device",
        "web.country_code",
        "attributes['Bad']",
        "attributes['plan']",
    ]
