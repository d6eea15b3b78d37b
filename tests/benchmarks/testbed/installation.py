"""A running installation for figures, in a folder that goes away."""

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from server.runtime.supervision.endpoints import Endpoints
from tests.faults.installation import Installation


@contextmanager
def running(*options: str, **variables: str) -> "Iterator[tuple[Installation, asyncio.Runner]]":
    """The installation, and the event loop that it was started in."""
    parent = _folder()
    with asyncio.Runner() as runner:
        installation = Installation(parent / "data", *options, **variables)
        runner.run(installation.start())
        try:
            yield installation, runner
        finally:
            runner.run(installation.stop())
            shutil.rmtree(parent, ignore_errors=True)


@asynccontextmanager
async def started(*options: str, **variables: str) -> AsyncIterator[tuple[Installation, Endpoints]]:
    """One more installation, where an event loop runs already."""
    parent = _folder()
    installation = Installation(parent / "data", *options, **variables)
    endpoints = await installation.start()
    try:
        yield installation, endpoints
    finally:
        await installation.stop()
        shutil.rmtree(parent, ignore_errors=True)


def _folder() -> Path:
    """Which the engines' account can enter."""
    path = Path(tempfile.mkdtemp(prefix="smp"))
    path.chmod(0o711)
    return path
