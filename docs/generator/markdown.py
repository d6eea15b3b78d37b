"""Small pieces of Markdown that the generators share."""

import re
from collections.abc import Iterable, Sequence

_ENTITIES = {character: f"&#{ord(character)};" for character in "\\*[]<>{}|#"}
_CODE = re.compile(r"(`[^`]+`)")


def text(plain: str) -> str:
    """Escape plain text, so that Markdown shows it as it is. Spans in backticks stay code."""
    parts = _CODE.split(" ".join(plain.split()))
    return "".join(
        part.replace("|", "\\|") if number % 2 else "".join(_ENTITIES.get(c, c) for c in part)
        for number, part in enumerate(parts)
    )


def code(plain: str) -> str:
    """Return plain text as a span of code that may stand in a table."""
    return f"`{plain}`".replace("|", "\\|")


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table of Markdown cells."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def page(*blocks: str) -> str:
    """Join blocks with empty lines."""
    return "\n\n".join(block for block in blocks if block) + "\n"
