"""The names of the dimensions that users can be segmented and broken down by."""

import re

SHARED = (
    "channel",
    "source",
    "medium",
    "campaign",
    "device",
    "os",
    "browser",
    "country",
    "region",
    "language",
    "hour",
    "day_of_week",
    "is_weekend",
)
OF_CHANNEL = {
    "web": ("content", "term", "landing_path", "returning"),
    "email": ("list", "provider", "engagement_score", "previous_opens", "previous_clicks", "days_since_last_open"),
    "funnel": ("funnel", "stage", "drop_risk", "minutes_in_funnel", "previous_stages", "cart_value"),
    "push": ("app_version", "opt_in_days", "previous_opens"),
}
DIMENSIONS = tuple(dict.fromkeys([*SHARED, *(name for names in OF_CHANNEL.values() for name in names)]))
MAX_ATTRIBUTES = 32
_RESERVED = frozenset(DIMENSIONS) | {"global", "other", "cluster", "is_bot"}
_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")


def is_attribute_name(name: str) -> bool:
    """Return whether a custom dimension may have this name."""
    return _NAME.fullmatch(name) is not None and name not in _RESERVED
