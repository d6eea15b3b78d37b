"""Durations as people type them."""

import re

from server.cli.errors import CommandError

_SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


def parse_seconds(text: str) -> int:
    """Return the seconds of a duration such as 90s, 30m, 12h or 7d. Raises CommandError."""
    match = re.fullmatch(r"(\d{1,7})([smhd])", text)
    if text == "0":
        return 0
    if match is None:
        raise CommandError(f"{text!r} is no duration: use a number with s, m, h or d, such as 12h")
    return int(match[1]) * _SECONDS[match[2]]
