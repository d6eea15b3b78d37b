"""A running installation for figures, in a folder that goes away."""

import asyncio
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.faults.installation import Installation


@contextmanager
def running(*options: str, **variables: str) -> "Iterator[tuple[Installation, asyncio.Runner]]":
    """The installation, and the event loop that it was started in."""
    parent = Path(tempfile.mkdtemp(prefix="smp"))
    parent.chmod(0o711)
    with asyncio.Runner() as runner:
        installation = Installation(parent / "data", *options, **variables)
        runner.run(installation.start())
        try:
            yield installation, runner
        finally:
            runner.run(installation.stop())
            shutil.rmtree(parent, ignore_errors=True)
