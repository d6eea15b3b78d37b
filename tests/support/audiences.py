"""Simulated traffic as contexts of the four channels, with four planted audiences or none."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from allocator.context import Email, Funnel, Push, Web, extract

AUDIENCES = 4
PURITY = 0.9  # the probability that a dimension has its audience's value
_SHARES = (0.35, 0.30, 0.20, 0.15)
_MONDAY = 1_767_571_200  # 5 January 2026, midnight UTC
_AGENTS = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.5 "
    "Mobile/15E148 Safari/604.1",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10.15; rv:127.0) Gecko/20100101 Firefox/127.0",
    "Mozilla/5.0 (Linux; Android 14; Pixel 8) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 "
    "Mobile Safari/537.36",
)
_HOURS = ((18, 19, 20, 21), (9, 11, 13, 15, 17), (6, 7, 8), (23, 0, 1))
_DAYS = ((5, 6), (0, 1, 2, 3, 4), (0, 1, 2, 3, 4), (5, 6))

# For each channel and field, the value of each audience. A tuple of fields is one dimension by construction.
_Fields = Mapping[tuple[str, ...], Sequence[Any]]
_PLACE: _Fields = {("country_code", "language"): (("br", "pt-BR"), ("us", "en-US"), ("de", "de-DE"), ("in", "hi-IN"))}
_AGENT: _Fields = {("user_agent",): [(agent,) for agent in _AGENTS]}
_CHANNELS: Mapping[str, tuple[Callable[..., Any], _Fields]] = {
    "web": (
        Web,
        {
            ("utm_source", "utm_medium", "utm_campaign", "landing_path"): (
                ("instagram", "social", "summer", "/looks"),
                ("google", "cpc", "brand", "/pricing"),
                ("newsletter", "email", "monthly", "/news"),
                ("tiktok", "social", "dance", "/looks"),
            ),
            ("returning",): ((False,), (False,), (True,), (True,)),
            **_AGENT,
            **_PLACE,
        },
    ),
    "email": (
        Email,
        {
            ("list_id", "campaign_id"): (("vip", "summer"), ("trial", "brand"), ("news", "monthly"), ("old", "dance")),
            ("engagement_score",): ((0.9,), (0.5,), (0.9,), (0.1,)),
            ("previous_opens",): ((40,), (3,), (10,), (0,)),
            ("previous_clicks",): ((25,), (2,), (0,), (0,)),
            ("days_since_last_open",): ((2,), (10,), (50,), (200,)),
            ("provider",): (("gmail",), ("outlook",), ("icloud",), ("yahoo",)),
            **_AGENT,
            **_PLACE,
        },
    ),
    "funnel": (
        Funnel,
        {
            ("funnel_id", "current_stage", "previous_stages"): (
                ("shop", "payment", ("cart", "address")),
                ("plans", "trial", ()),
                ("shop", "cart", ("product",)),
                ("gifts", "message", ("gift", "card", "cart")),
            ),
            ("drop_risk",): ((0.1,), (0.5,), (0.9,), (0.9,)),
            ("minutes_in_funnel",): ((3,), (1,), (20,), (10,)),
            ("cart_value",): ((300,), (0,), (40,), (100,)),
            **_AGENT,
            **_PLACE,
        },
    ),
    "push": (
        Push,
        {
            ("platform", "app_version"): (("ios", "5.1"), ("windows", "2.0"), ("macos", "2.1"), ("android", "4.9")),
            ("opt_in_days",): ((3,), (20,), (60,), (200,)),
            ("previous_opens",): ((3,), (0,), (30,), (10,)),
            **_PLACE,
        },
    ),
}
CHANNELS = tuple(_CHANNELS)
_Draw = Callable[[], int]  # the audience that each dimension takes its value from


def planted(channel: str | None, users: int, seed: int) -> tuple[list[Mapping[str, str]], NDArray[np.int64]]:
    """Return contexts and audiences, int64 (users,). Without `channel` each audience mostly has its own."""
    rng = np.random.default_rng([seed, users])
    truth = rng.choice(AUDIENCES, users, p=_SHARES)
    return [_context(channel, partial(_mostly, int(own), rng), rng) for own in truth], truth


def structureless(channel: str | None, users: int, seed: int) -> list[Mapping[str, str]]:
    """Return contexts with the same values, whose dimensions are independent unless constructed as one."""
    rng = np.random.default_rng([seed, users, 1])
    return [_context(channel, lambda: int(rng.choice(AUDIENCES, p=_SHARES)), rng) for _ in range(users)]


def _mostly(own: int, rng: np.random.Generator) -> int:
    return own if rng.random() < PURITY else (own + int(rng.integers(1, AUDIENCES))) % AUDIENCES


def _context(channel: str | None, draw: _Draw, rng: np.random.Generator) -> Mapping[str, str]:
    make, fields = _CHANNELS[channel or CHANNELS[draw()]]
    values: dict[str, Any] = {}
    for names, of_audience in fields.items():
        values |= zip(names, of_audience[draw()], strict=True)
    at = _MONDAY + 86_400 * int(rng.choice(_DAYS[draw()])) + 3_600 * int(rng.choice(_HOURS[draw()]))
    return extract(make(**values), {}, at, "UTC").dimensions
