"""A server and a worker in this process on embedded engines, under a simulated clock."""

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc

from server.runtime.bootstrap import prepare_stores
from server.runtime.composition import Application
from server.runtime.worker import run_worker
from server.settings import Settings
from server.tasks import end
from storage.engines.directory import DataDirectory
from storage.engines.embedded import EmbeddedEngines
from storage.postgres.schema import migrate
from tests.conftest import Clock
from tests.support.service import Service, stubs

_MIDNIGHT = datetime(2026, 3, 2, tzinfo=UTC)


def _folder() -> Path:
    """Yield a folder that the engines' account can enter."""
    path = Path(tempfile.mkdtemp(prefix="smp"))
    path.chmod(0o711)
    return path


@asynccontextmanager
async def simulated(*, with_worker: bool = True, **options: Any) -> AsyncIterator[tuple[Service, Clock]]:
    """Yield the service and its clock, which begins at midnight. `options` are further settings."""
    parent = _folder()
    directory = DataDirectory.open(parent / "engines")
    engines = EmbeddedEngines(directory, lambda _: None, appendfsync="everysec")
    clock = Clock()
    clock.now = _MIDNIGHT
    try:
        urls = await engines.start()
        await migrate(urls.postgres_dsn)
        settings = Settings(data_dir=parent, port=0, admin_port=0, publish_interval=0.02, **options).with_stores(
            urls.postgres_dsn, urls.redis_url
        )
        await prepare_stores(settings, clock)
        application = await Application.start(settings, clock)
        ready = asyncio.Event()
        workers = [asyncio.create_task(run_worker(settings, clock, ready))] if with_worker else []
        if workers:
            await ready.wait()
        async with (
            grpc.aio.insecure_channel(f"127.0.0.1:{application.port}") as allocation,
            grpc.aio.insecure_channel(f"127.0.0.1:{application.admin_port}") as admin,
        ):
            yield Service(application, *stubs(allocation, admin), settings, settings.api_key_file.read_text()), clock
        await end(*workers)
        await application.stop(grace=1)
        await engines.stop()
    finally:
        directory.close()
        shutil.rmtree(parent, ignore_errors=True)
