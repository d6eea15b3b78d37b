"""Which characters may stand in names, and how texts are written so that they cannot steer a terminal.

Control characters move the cursor, change colours and titles. Bidirectional ones let a text read as another one.
"""

import re

_CONTROL = re.compile(
    r"[\x00-\x1f\x7f-\x9f\xad"  # C0, DEL, C1, soft hyphen
    r"\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # bidirectional (UAX #9)
    r"\u180e\u200b\u2028\u2029\u2060-\u2065\u206a-\u206f\ufeff\ufff9-\ufffb\U000e0001"  # breaks, and invisible ones
    r"\ud800-\udfff]"
)
_BREAKS = "\n\t"  # that longer texts may have


def has_controls(text: str, *, breaks: bool = False) -> bool:
    """Return whether a text has characters that no name may have. `breaks` allows line breaks and tabs."""
    return any(found[0] not in _BREAKS or not breaks for found in _CONTROL.finditer(text))


def escaped(text: str) -> str:
    r"""Return a text with its control characters written out, such as "\x1b". Line breaks and tabs stay."""
    return _CONTROL.sub(_escape, text)


def _escape(found: re.Match[str]) -> str:
    code = ord(found[0])
    if found[0] in _BREAKS:
        return found[0]
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
