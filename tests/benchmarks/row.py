"""A row of a figure, and writing rows to a file."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Row:
    """A measured ratio beside its goal. The code that makes a row computes `holds`; nobody writes it by hand."""

    figure: str
    reference: str
    ours: str
    ratio: float
    spread: str
    goal: str
    holds: bool


def write_rows(path: Path, rows: Sequence[Row]) -> Path:
    """Write the rows as JSON. Return the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n")
    return path
