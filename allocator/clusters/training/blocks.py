"""Dimensions that depend on each other by construction: they say one thing together, and are shuffled together."""

_TOGETHER = (
    ("channel", "source", "medium", "campaign", "content", "term", "landing_path", "list"),  # a campaign has its page
    ("device", "os", "browser", "app_version"),
    ("day_of_week", "is_weekend"),
    ("country", "region", "language"),
    ("funnel", "stage", "previous_stages"),
)
_BLOCKS = {name: names[0] for names in _TOGETHER for name in names}


def block_of(dimension: str) -> str:
    """The block's name: that of its first dimension; a dimension on its own is its own block."""
    return _BLOCKS.get(dimension, dimension)
