"""Contexts of all channels: the same dimensions, canonical values, and all invalid fields in one error."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from samplit.allocation.v1 import allocation_service_pb2, context_pb2

from allocator.context import DIMENSIONS, Email, Funnel, Push, Web, canonical, extract
from allocator.errors import InvalidFieldError
from server.api.allocation.messages import CHANNELS, allocation_request

IPHONE = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_4 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) "
    "Version/17.4 Mobile/15E148 Safari/604.1"
)
BOT = "Mozilla/5.0 (compatible; bingbot/2.0; +http://www.bing.com/bingbot.htm)"
AT = int(datetime(2026, 3, 1, 23, 30, tzinfo=UTC).timestamp())  # a Sunday
TIMES = {"hour": "23", "day_of_week": "sunday", "is_weekend": "true"}
TEXT = st.text(max_size=300)


def dimensions(channel: Web | Email | Funnel | Push | None, **attributes: str) -> dict[str, str]:
    return dict(extract(channel, attributes, AT, "UTC").dimensions)


def test_web() -> None:
    web = Web(
        utm_source=" IG ",
        utm_medium="Social",
        utm_campaign="Spring Sale",
        utm_content="Hero",
        utm_term="Shoes",
        landing_path="/Pricing?utm_source=x",
        user_agent=IPHONE,
        country_code="br",
        region="SP",
        language="pt-BR",
        returning=False,
    )
    assert dimensions(web, plan="Pro") == TIMES | {
        "channel": "web",
        "source": "instagram",
        "medium": "social",
        "campaign": "spring sale",
        "content": "hero",
        "term": "shoes",
        "landing_path": "/pricing",
        "device": "mobile",
        "os": "ios",
        "browser": "mobile safari",
        "country": "br",
        "region": "sp",
        "language": "pt",
        "returning": "false",
        "plan": "pro",
    }


def test_email() -> None:
    email = Email(
        list_id="Newsletter",
        campaign_id="2026-11",
        engagement_score=0.7,
        previous_opens=0,
        previous_clicks=4,
        days_since_last_open=6.5,
        provider="Gmail",
    )
    assert dimensions(email) == TIMES | {
        "channel": "email",
        "source": "email",
        "medium": "email",
        "campaign": "2026-11",
        "list": "newsletter",
        "provider": "gmail",
        "engagement_score": "high",
        "previous_opens": "0",
        "previous_clicks": "1-4",
        "days_since_last_open": "0-6",
    }


def test_funnel() -> None:
    funnel = Funnel(
        funnel_id="checkout",
        current_stage="payment",
        drop_risk=0.29,
        minutes_in_funnel=15,
        previous_stages=["cart", "address", "shipping"],
        cart_value=49.99,
    )
    assert dimensions(funnel) == TIMES | {
        "channel": "funnel",
        "funnel": "checkout",
        "stage": "payment",
        "drop_risk": "low",
        "minutes_in_funnel": "15+",
        "previous_stages": "3-4",
        "cart_value": "1-49",
    }


def test_push() -> None:
    push = Push(platform="iOS", app_version="4.12.1-beta", opt_in_days=90, previous_opens=20)
    assert dimensions(push) == TIMES | {
        "channel": "push",
        "source": "push",
        "medium": "push",
        "device": "mobile",
        "os": "ios",
        "app_version": "4.12",
        "opt_in_days": "90+",
        "previous_opens": "20+",
    }


def test_all_dimensions_have_a_name() -> None:
    seen = [dimensions(each) for each in (Web(landing_path="/", returning=True), Email(), Funnel(), Push())]
    assert set().union(*seen) <= set(DIMENSIONS)


def test_what_the_caller_knows_better_and_bots() -> None:
    assert dimensions(Web(user_agent=IPHONE, device="tablet"))["device"] == "tablet"
    assert extract(Web(user_agent=BOT), {}, AT, "UTC").is_bot
    assert extract(Funnel(user_agent=BOT), {}, AT, "UTC").is_bot
    assert not extract(Email(user_agent=BOT), {}, AT, "UTC").is_bot


def test_times_are_the_users_else_the_experiments() -> None:
    assert dimensions(None) == TIMES
    tokyo = extract(Web(time_zone="Asia/Tokyo"), {}, AT, "UTC").dimensions
    assert (tokyo["hour"], tokyo["day_of_week"], tokyo["is_weekend"]) == ("8", "monday", "false")
    assert extract(Web(), {}, AT, "America/Sao_Paulo").dimensions["hour"] == "20"


@pytest.mark.parametrize("code", ["XX", "T1", "ZZ"])
def test_codes_of_no_country_are_unknown(code: str) -> None:
    assert "country" not in dimensions(Web(country_code=code))


@pytest.mark.parametrize(
    ("channel", "paths"),
    [
        (Web(country_code="BRA", device="phone"), ["web.device", "web.country_code"]),
        (Web(time_zone="Mars/Olympus", language="!"), ["web.language", "web.time_zone"]),
        (
            Email(engagement_score=-0.1, days_since_last_open=-1),
            ["email.engagement_score", "email.days_since_last_open"],
        ),
        (Email(list_id="x" * 257), ["email.list_id"]),
        (Funnel(drop_risk=1.7, cart_value=float("nan")), ["funnel.drop_risk", "funnel.cart_value"]),
        (
            Funnel(minutes_in_funnel=float("inf"), previous_stages=["s"] * 33),
            ["funnel.previous_stages", "funnel.minutes_in_funnel"],
        ),
        (Push(platform="blackberry", opt_in_days=-3), ["push.platform", "push.opt_in_days"]),
    ],
)  # fmt: skip
def test_what_callers_know_must_be_right(channel: Web | Email | Funnel | Push, paths: list[str]) -> None:
    with pytest.raises(InvalidFieldError) as refused:
        dimensions(channel)
    assert [violation.field for violation in refused.value.violations] == paths


def test_attributes_are_checked() -> None:
    attributes = {"Bad": "x", "source": "x", "plan": "\0", "long": "x" * 257, "fine": "x", "a|b": "x", "a:b": "x"}
    with pytest.raises(InvalidFieldError) as refused:
        extract(None, attributes, AT, "UTC")
    paths = [violation.field for violation in refused.value.violations]
    assert paths == [f"attributes[{name!r}]" for name in ("Bad", "source", "plan", "long", "a|b", "a:b")]
    with pytest.raises(InvalidFieldError, match="at most 32"):
        extract(None, {f"a{n}": "" for n in range(33)}, AT, "UTC")


@given(TEXT, TEXT, TEXT, st.lists(TEXT, max_size=3), TEXT)
def test_strangers_can_send_anything(source: str, referrer: str, path: str, clicks: list[str], agent: str) -> None:
    web = Web(
        utm_source=source,
        utm_medium=path,
        utm_campaign=referrer,
        referrer=referrer,
        landing_path=path,
        click_ids=clicks,
        user_agent=agent,
    )
    for value in dimensions(web).values():
        assert value
        assert canonical(value) == value


def test_a_megabyte_is_cut_to_size() -> None:
    junk = "\x00\xff" * 500_000
    web = Web(utm_source=junk, utm_medium=junk, utm_campaign=junk, referrer=junk, landing_path=junk, user_agent=junk)
    assert max(map(len, dimensions(web).values())) <= 64


@pytest.mark.parametrize("name", CHANNELS)
def test_messages_have_the_same_fields(name: str) -> None:
    message = getattr(context_pb2, f"{name.title()}Context").DESCRIPTOR
    assert {field.name for field in message.fields} == set(CHANNELS[name]._fields)


def test_zero_is_known_and_unset_is_not() -> None:
    request = allocation_service_pb2.AllocateUserRequest(experiment_id="x", user_identifier="u")
    request.email.previous_opens = 0
    assert allocation_request(request, datetime.fromtimestamp(AT, UTC)).channel == Email(previous_opens=0)
