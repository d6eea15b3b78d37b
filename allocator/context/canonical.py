"""Canonical values: one spelling for each value in segment keys, breakdowns and the log."""

import unicodedata

UNKNOWN = "unknown"
MAX_VALUE = 64
_MOST_READ = 1_024  # characters of a value; the rest is ignored


def canonical(value: str) -> str:
    """Return a value as printable characters in compatibility form (NFKC), lower-case, trimmed, and at most 64.

    A canonical value stays as it is.
    """
    value = value[:_MOST_READ]
    if not value.isprintable():
        value = "".join(character for character in value if character.isprintable() or character.isspace())
        value = " ".join(value.split())
    if value.isascii():
        return value.lower().strip()[:MAX_VALUE].rstrip()
    value = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", value).lower())
    return value.strip()[:MAX_VALUE].rstrip()
