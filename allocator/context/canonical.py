"""One spelling for each value: what segment keys, breakdowns and the log agree on."""

import unicodedata

UNKNOWN = "unknown"
MAX_VALUE = 64
_MOST_READ = 1_024  # characters of a value that are looked at


def canonical(value: str) -> str:
    """Printable, in compatibility form (NFKC), lower-case, trimmed, at most 64 characters; idempotent."""
    value = value[:_MOST_READ]
    if not value.isprintable():
        value = "".join(character for character in value if character.isprintable() or character.isspace())
        value = " ".join(value.split())
    if value.isascii():
        return value.lower().strip()[:MAX_VALUE].rstrip()
    value = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", value).lower())
    return value.strip()[:MAX_VALUE].rstrip()
