"""The append-only file of Valkey: recognises a damaged one, reads what can be read of it, and writes a new one.

It is a folder with a manifest, a base (a snapshot, as RDB) and increments (commands in the protocol, RESP). Knows
nothing of what the commands store.
"""

import mmap
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from storage.engines.account import Account, own
from storage.engines.errors import EngineFailedError

FOLDER = "appendonlydir"
Command = Sequence[bytes]
_BASE, _INCREMENT, _MANIFEST = "appendonly.aof.1.base.aof", "appendonly.aof.1.incr.aof", "appendonly.aof.manifest"
_READY = f"{FOLDER}.ready"
_SIGNS_OF_DAMAGE = (
    "bad file format reading the append only file",
    "unexpected end of file reading the append only file",
    "unrecoverable error reading the append only file",
    "unknown command",
    "fatal aof manifest file error",
    "length. stat: no such file",  # which the manifest names
    "internal error in rdb reading",
    "rdb file was saved with checksum",
    "wrong rdb checksum",
    "terminating server after rdb file reading failure",
    "wrong signature trying to load db from file",
    "error reading the rdb preamble of the aof file",
)
_MOST_WORDS = 1 << 20


def is_damaged(error: EngineFailedError) -> bool:
    """Return whether Valkey ended because it could not read its append-only file."""
    text = str(error).lower()
    return any(sign in text for sign in _SIGNS_OF_DAMAGE)


def read_increments(folder: Path) -> Iterator[Command]:
    """Yield the commands of all increments, in order, but those in damaged bytes."""
    for path in sorted(folder.glob("*.base.aof"), key=_sequence) + sorted(folder.glob("*.incr.aof"), key=_sequence):
        if path.stat().st_size:
            with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                yield from read_commands(content)


def find_snapshot(folder: Path) -> Path | None:
    """Return the file of the base, if it is a snapshot."""
    return max(folder.glob("*.base.rdb"), key=_sequence, default=None)


def read_commands(content: bytes | mmap.mmap) -> Iterator[Command]:
    """Yield the commands in a text of the protocol. After damaged bytes, it goes on with the next whole command."""
    position = 0
    while position < len(content):
        command, after = _command_at(content, position)
        if command is not None:
            yield command
            position = after
        else:
            found = content.find(b"\n*", position)
            position = len(content) if found < 0 else found + 1


def replace(folder: Path, commands: Iterable[Command], account: Account | None) -> Path:
    """Give Valkey's folder a new append-only file with these commands. Returns where the former one is kept.

    After a crash in between, `finish` goes on: nothing that was written is lost.
    """
    unfinished = folder / f"{FOLDER}.unfinished"
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(mode=0o700)
    with (unfinished / _BASE).open("wb") as file:
        for command in commands:
            file.write(b"*%d\r\n" % len(command))
            file.writelines(b"$%d\r\n%b\r\n" % (len(word), word) for word in command)
        file.flush()
        os.fsync(file.fileno())
    (unfinished / _INCREMENT).touch()
    (unfinished / _MANIFEST).write_text(f"file {_BASE} seq 1 type b\nfile {_INCREMENT} seq 1 type i\n")
    for path in (unfinished, *unfinished.iterdir()):
        own(path, account)
    unfinished.rename(folder / _READY)
    aside = folder / f"damaged-{datetime.now(UTC):%Y%m%dT%H%M%S.%f}"
    (folder / FOLDER).rename(aside)
    finish(folder)
    return aside


def finish(folder: Path) -> None:
    """Use the new append-only file if the damaged one is kept aside already; otherwise it would be written again."""
    if (folder / _READY).exists() and not (folder / FOLDER).exists():
        (folder / _READY).rename(folder / FOLDER)
    shutil.rmtree(folder / _READY, ignore_errors=True)


def _command_at(content: bytes | mmap.mmap, position: int) -> tuple[Command | None, int]:
    """Return the command at a position, and the position after it; None if there is no whole command."""
    words, position = _number_at(content, position, b"*")
    if words is None or not 0 < words <= _MOST_WORDS:
        return None, position
    command = []
    for _ in range(words):
        size, position = _number_at(content, position, b"$")
        if size is None or size < 0 or content[position + size : position + size + 2] != b"\r\n":
            return None, position
        command.append(bytes(content[position : position + size]))
        position += size + 2
    return command, position


def _number_at(content: bytes | mmap.mmap, position: int, sign: bytes) -> tuple[int | None, int]:
    end = content.find(b"\r\n", position, position + 24)
    digits = content[position + 1 : end]
    if end < 0 or content[position : position + 1] != sign or not digits.isdigit():
        return None, position
    return int(digits), end + 2


def _sequence(path: Path) -> int:
    """Return the number in a name such as appendonly.aof.12.incr.aof."""
    number = path.name.split(".")[-3]
    return int(number) if number.isdigit() else 0
