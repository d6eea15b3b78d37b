"""Public data sets, which are not part of the project. They are read where they are present."""

import os
from pathlib import Path

_BESIDE = Path(__file__).resolve().parents[3] / "shared" / "data"


def data_file(name: str) -> Path | None:
    """Return a file below $SAMPLIT_TEST_DATA, or else below shared/data beside the checkout. None if it is missing."""
    path = Path(os.environ.get("SAMPLIT_TEST_DATA", _BESIDE)) / name
    return path if path.exists() else None
