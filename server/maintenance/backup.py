"""Backs an installation with embedded engines up while it serves, and restores it into another data directory.

A backup is a folder with a copy of PostgreSQL's files, the secrets, the events that could not be counted, and a
description, which is written last: a folder without it is no backup. Redis is not copied. Its sticky records and what
is published follow from PostgreSQL, and a Redis that is empty gets a new epoch once a worker has refilled it.
"""

import asyncio
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import datetime
from importlib.metadata import version
from pathlib import Path

import msgspec

from storage.engines.backup import BackupFailedError, check_copy, copy_postgres, put_postgres
from storage.engines.directory import DataDirectory
from storage.engines.embedded import EmbeddedEngines
from storage.engines.errors import DirectoryUnusableError
from storage.redis import streams
from storage.redis.client import Client, create_client

_DESCRIPTION, _POSTGRES, _SECRETS, _DEAD_LETTERS = "backup.json", "postgres", "secrets", "dead-letters.json"
_POLL_SECONDS = 0.1
_STALL_SECONDS = 60.0
_FORMAT = 1


class Description(msgspec.Struct, frozen=True):
    """What a backup says of itself. Everything that was acknowledged before `taken_at` is in it."""

    format: int
    taken_at: datetime
    release: str
    shards: int


class DeadLetter(msgspec.Struct, frozen=True):
    """An event that could not be counted, and its shard."""

    shard: int
    event: bytes
    reason: str


async def back_up(
    path: Path, redis: Client, shards: int, target: Path, now: datetime, report: Callable[[str], None]
) -> Description:
    """Back up the installation that serves on the data directory `path` into the folder `target`.

    target: a new or an empty folder. report: called with a short line for each step.

    Raises:
        BackupFailedError: the folder has something in it, the worker stores no events, or PostgreSQL's files cannot be
            copied. Nothing is left in the folder then.
        OSError: the folder cannot be written.
    """
    with _new_contents(target):
        report("waiting until the events that were acknowledged are stored")
        await asyncio.gather(*(_wait_until_stored(redis, shard) for shard in range(shards)))
        report("copying PostgreSQL's files, and checking the copy")
        await copy_postgres(path, target / _POSTGRES)
        letters = [
            DeadLetter(shard, letter.payload, letter.reason)
            for shard in range(shards)
            for letter in await streams.dead_letters(redis, shard)
        ]
        _write(target / _DEAD_LETTERS, msgspec.json.encode(letters))
        # After the copy: a key of the keyset that encrypted something in it is in the keyset by now.
        _copy_secrets(path / _SECRETS, target / _SECRETS)
        description = Description(_FORMAT, now, version("samplit"), shards)
        _write(target / _DESCRIPTION, msgspec.json.format(msgspec.json.encode(description)))
    return description


async def restore(source: Path, path: Path, report: Callable[[str], None]) -> Description:
    """Restore a backup into a data directory that holds no installation.

    The engines run for a moment, so that a copy that PostgreSQL cannot use is noticed here. report: called with a short
    line for each step.

    Raises:
        EmbeddedError: `source` is no backup, is damaged or was made by another release, `path` holds an installation
            already, or an engine did not start.
        OSError: a folder cannot be read or written.
    """
    description, letters = _read_description(source)
    report("checking the backup")
    await check_copy(source / _POSTGRES)
    with closing(DataDirectory.open(path)) as directory:
        taken = [name for name in (_POSTGRES, _SECRETS, "valkey") if _has_contents(directory.path / name)]
        if taken:
            raise DirectoryUnusableError(
                f"{path} holds an installation already ({', '.join(taken)}): restore into another data directory, or "
                "delete this one with `samplit reset`"
            )
        report("copying the backup into the data directory")
        # PostgreSQL's files first: without the secrets that belong to them no server starts on them.
        put_postgres(source / _POSTGRES, directory)
        _copy_secrets(source / _SECRETS, directory.path / _SECRETS)
        await _try_engines(directory, letters, report)
    return description


async def _wait_until_stored(redis: Client, shard: int) -> None:
    """Wait until the worker has stored all events that are in the stream of a shard now. Raises BackupFailedError."""
    newest = await streams.newest_entry(redis, shard)
    if newest is None:
        return
    loop = asyncio.get_running_loop()
    seen, deadline = None, loop.time() + _STALL_SECONDS
    while (oldest := await streams.oldest_entry(redis, shard, up_to=newest)) is not None:
        if oldest != seen:
            seen, deadline = oldest, loop.time() + _STALL_SECONDS
        elif loop.time() > deadline:
            raise BackupFailedError(
                f"the worker has stored no event of shard {shard} for {_STALL_SECONDS:.0f} s: see the log of the server"
            )
        await asyncio.sleep(_POLL_SECONDS)


async def _try_engines(directory: DataDirectory, letters: list[DeadLetter], report: Callable[[str], None]) -> None:
    """Start both engines on restored files, put the events back that could not be counted, and stop the engines."""
    engines = EmbeddedEngines(directory, report)
    try:
        redis = create_client((await engines.start()).redis_url)
        try:
            for letter in letters:
                await streams.set_aside(redis, letter.shard, letter.event, letter.reason)
        finally:
            await redis.aclose()
    finally:
        await engines.stop()


def _read_description(source: Path) -> tuple[Description, list[DeadLetter]]:
    try:
        description = msgspec.json.decode((source / _DESCRIPTION).read_bytes(), type=Description)
        letters = msgspec.json.decode((source / _DEAD_LETTERS).read_bytes(), type=list[DeadLetter])
    except FileNotFoundError as error:
        raise BackupFailedError(f"{source} is no backup, or not a complete one: it has no {error.filename}") from error
    except msgspec.MsgspecError as error:
        raise BackupFailedError(f"the backup in {source} is damaged: {error}") from error
    if description.format != _FORMAT:
        raise BackupFailedError(
            f"the backup in {source} has format {description.format}, and this release reads format {_FORMAT}: "
            f"restore it with Samplit {description.release}"
        )
    return description, letters


@contextmanager
def _new_contents(target: Path) -> Iterator[None]:
    """Make a folder that only its owner can enter, or take an empty one. Empty it again if the block fails."""
    target.mkdir(mode=0o700, parents=True, exist_ok=True)
    if _has_contents(target):
        raise BackupFailedError(f"{target} has something in it: name a new or an empty folder")
    target.chmod(0o700)
    try:
        yield
    except BaseException:
        for each in target.iterdir():
            if each.is_dir():
                shutil.rmtree(each, ignore_errors=True)
            else:
                each.unlink()
        raise


def _has_contents(folder: Path) -> bool:
    return folder.exists() and any(folder.iterdir())


def _copy_secrets(source: Path, target: Path) -> None:
    target.mkdir(mode=0o700, exist_ok=True)
    for each in source.iterdir():
        _write(target / each.name, each.read_bytes())


def _write(path: Path, contents: bytes) -> None:
    """Write a file of mode 0600, down to the disk."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(contents)
        file.flush()
        os.fsync(descriptor)
