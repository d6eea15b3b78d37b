"""The client under test, and a folder for what it calls."""

import asyncio
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvloop

from tests.interop.clients import LANGUAGES, Client, build
from tests.interop.service import write_descriptors


@pytest.fixture(scope="session")
def event_loop_policy() -> asyncio.AbstractEventLoopPolicy:
    policy: asyncio.AbstractEventLoopPolicy = uvloop.EventLoopPolicy()
    return policy


@pytest.fixture(scope="session", params=LANGUAGES)
def client(request: pytest.FixtureRequest) -> Client:
    write_descriptors()
    return build(request.param)


@pytest.fixture
def folder() -> Iterator[Path]:
    """Return a folder with a path short enough for unix sockets, and open to the engines' account."""
    path = Path(tempfile.mkdtemp(prefix="smp"))
    path.chmod(0o711)
    yield path
    shutil.rmtree(path, ignore_errors=True)
