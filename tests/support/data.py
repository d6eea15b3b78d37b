"""Public data sets that are not part of the project: read where they are present."""

import os
from pathlib import Path

_BESIDE = Path(__file__).resolve().parents[3] / "shared" / "data"


def data_file(name: str) -> Path | None:
    """The file below $SAMPLIT_TEST_DATA, or below shared/data beside the checkout; None if it is not there."""
    path = Path(os.environ.get("SAMPLIT_TEST_DATA", _BESIDE)) / name
    return path if path.exists() else None
