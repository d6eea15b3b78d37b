"""The folder of each installation under test."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def folder() -> Iterator[Path]:
    """Return a path for a data directory: short enough for unix sockets, and open to the engines' account."""
    parent = Path(tempfile.mkdtemp(prefix="smp"))
    parent.chmod(0o711)
    yield parent / "data"
    shutil.rmtree(parent, ignore_errors=True)
