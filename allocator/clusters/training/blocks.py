"""Blocks of dimensions that depend on each other by construction. They count as one, and are shuffled together."""

_TOGETHER = (
    (
        "channel",
        "source",
        "medium",
        "campaign",
        "content",
        "term",
        "landing_path",
        "list",
    ),  # a campaign has its own page
    ("device", "os", "browser", "app_version"),
    ("day_of_week", "is_weekend"),
    ("country", "region", "language"),
    ("funnel", "stage", "previous_stages"),
)
_BLOCKS = {name: names[0] for names in _TOGETHER for name in names}


def block_of(dimension: str) -> str:
    """Return the name of a dimension's block, which is the first dimension of the block.

    A dimension that depends on no other is a block of its own.
    """
    return _BLOCKS.get(dimension, dimension)
