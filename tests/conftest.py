"""Real engines for the whole session; for each test a database made from a template, and an emptied Redis."""

import asyncio
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest
from redis.asyncio import Redis

from server.settings import Settings
from storage.encryption import write_secret
from storage.engines.directory import DataDirectory
from storage.engines.embedded import EmbeddedEngines, StoreUrls
from storage.postgres.schema import migrate

pytest_plugins = ["tests.support.service", "tests.support.event_log"]
_TEMPLATE = "samplit_template"
_IDENTITY = "5a" * 32
_MEMORY_DISK_BYTES = 2 << 30  # a session's engines take about 100 MB, and more while a test writes much


class Clock:
    """A clock that tests set."""

    def __init__(self) -> None:
        self.now = datetime.now(UTC).replace(microsecond=0)

    def __call__(self) -> datetime:
        return self.now

    def advance(self, **by: float) -> None:
        self.now += timedelta(**by)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(scope="session")
def short_directory() -> Iterator[Path]:
    """A folder whose path is short enough for unix sockets, and which the engines' account can enter."""
    with _short_directory(None) as path:
        yield path


@pytest.fixture(scope="session")
def engines() -> Iterator[StoreUrls]:
    """One PostgreSQL and one Valkey for the session, with a migrated template database."""
    with _short_directory(_memory_disk()) as path:
        yield from _run_engines(path)


def _run_engines(path: Path) -> Iterator[StoreUrls]:
    directory = DataDirectory.open(path / "engines")
    embedded = EmbeddedEngines(directory, lambda _: None, appendfsync="everysec")
    with asyncio.Runner() as runner:
        endpoints = runner.run(embedded.start())
        runner.run(_make_template(endpoints.postgres_dsn))
        yield endpoints
        runner.run(embedded.stop())
    directory.close()


@pytest.fixture
async def dsn(engines: StoreUrls) -> AsyncIterator[str]:
    """A migrated database that only this test uses."""
    name = f"test_{os.urandom(6).hex()}"
    admin = await asyncpg.connect(engines.postgres_dsn)
    await admin.execute(f"CREATE DATABASE {name} TEMPLATE {_TEMPLATE}")
    yield _database(engines.postgres_dsn, name)
    await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
    await admin.close()


@pytest.fixture
async def redis(engines: StoreUrls) -> AsyncIterator[Redis]:
    """The session's Valkey, emptied before the test."""
    client = Redis.from_url(engines.redis_url)
    await client.flushall()
    yield client
    await client.aclose()


@pytest.fixture
def settings(engines: StoreUrls, dsn: str, redis: Redis, tmp_path: Path) -> Settings:
    """A server on the test's stores. Its identity key is fixed, so every run draws the same variants."""
    settings = Settings(
        data_dir=tmp_path, port=0, admin_port=0, publish_interval=0.02, poll_interval=0.5, redis_timeout=5
    )
    settings.secrets_directory.mkdir(mode=0o700)
    write_secret(settings.secrets_directory / "identity.key", _IDENTITY)
    return settings.with_stores(dsn, engines.redis_url)


async def _make_template(dsn: str) -> None:
    admin = await asyncpg.connect(dsn)
    await admin.execute("ALTER SYSTEM SET fsync = off")  # its data end with the session
    await admin.execute("SELECT pg_reload_conf()")
    await admin.execute(f"CREATE DATABASE {_TEMPLATE}")
    await migrate(_database(dsn, _TEMPLATE))
    await admin.close()


@contextmanager
def _short_directory(parent: Path | None) -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="smp", dir=parent))
    path.chmod(0o711)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def _memory_disk() -> Path | None:
    """Return a folder in memory, where PostgreSQL copies a database ten times faster than on a disk; None without one.

    The engines may run programs that they copied there, which `noexec` forbids.
    """
    path = Path("/dev/shm")  # noqa: S108 - each session makes a folder of its own in it
    if not (path.is_dir() and os.access(path, os.W_OK)) or os.statvfs(path).f_flag & os.ST_NOEXEC:
        return None
    return path if shutil.disk_usage(path).free > _MEMORY_DISK_BYTES else None


def _database(dsn: str, name: str) -> str:
    return urlunsplit(urlsplit(dsn)._replace(path=f"/{name}"))
