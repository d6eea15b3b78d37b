"""A damaged append-only file is kept aside, and what had not been drained is read from it."""

import asyncio
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from redis.asyncio import Redis

from storage.engines.append_only_file import read_commands
from storage.engines.directory import DataDirectory
from storage.engines.embedded import EmbeddedEngines
from storage.redis.salvage import remaining_events

GARBAGE = b"\x00\xff garbage \r\n*9\r\n$"


@pytest.fixture
def folder() -> Iterator[Path]:
    """A data directory's path that is short enough for sockets, and that the engines' account can enter."""
    parent = Path(tempfile.mkdtemp(prefix="smp"))
    parent.chmod(0o711)
    yield parent / "data"
    shutil.rmtree(parent, ignore_errors=True)


def words(*texts: str) -> bytes:
    return b"*%d\r\n" % len(texts) + b"".join(b"$%d\r\n%b\r\n" % (len(t), t.encode()) for t in texts)


def test_commands_after_damaged_bytes_are_read() -> None:
    whole = [words("SET", "a", "1"), words("SET", "b", "*2\r\n$1\r\nx"), words("SET", "c", "")]
    expected = [[b"SET", b"a", b"1"], [b"SET", b"b", b"*2\r\n$1\r\nx"], [b"SET", b"c", b""]]
    assert list(read_commands(b"".join(whole))) == expected
    damaged = bytearray(b"".join(whole))
    damaged[len(whole[0]) + 1 : len(whole[0]) + 3] = b"\x00\x00"  # the length of the second command
    assert [c for c in read_commands(bytes(damaged)) if c[0] == b"SET"] == [expected[0], expected[2]]
    assert list(read_commands(b"".join(whole) + GARBAGE)) == expected
    assert list(read_commands(GARBAGE)) == list(read_commands(b"")) == []


def test_events_that_were_deleted_or_flushed_are_not_left() -> None:
    def add(key: str, entry: str, *values: str) -> list[bytes]:
        fields = [each for number, value in enumerate(values, 1) for each in (str(number), value)]
        return [word.encode() for word in ("XADD", key, entry, *fields)]

    commands = [
        add("{s00}:events", "1-0", "x"),
        [b"FLUSHALL"],
        add("{s00}:events", "10-0", "a", "b"),
        add("{s00}:events", "9-0", "c"),
        add("{s00}:events", "11-0", "d"),
        [b"xdel", b"{s00}:events", b"9-0", b"8-0"],
        add("{s01}:dead", "5-0", "e"),
        add("{s02}:events", "6-0", "f"),
        [b"UNLINK", b"{s02}:events"],
        [b"HSET", b"{s00}:a:1:2", b"k", b"v"],
        [b"SET", b"{s00}:epoch", b"old"],
    ]
    assert remaining_events(commands) == [
        add("{s00}:events", "10-0", "a", "b"),
        add("{s00}:events", "11-0", "d"),
        (b"SET", b"{s00}:waiting", b"3"),
        add("{s01}:dead", "5-0", "e"),
    ]


@pytest.mark.parametrize("damage", ["garbage at the end", "bytes in the middle", "base", "manifest", "missing"])
async def test_valkey_starts_with_what_was_not_drained(folder: Path, damage: str) -> None:
    lines: list[str] = []
    with closing(DataDirectory.open(folder)) as directory:
        engines = EmbeddedEngines(directory, lines.append, salvage=remaining_events)
        try:
            url = (await engines.start()).redis_url
            async with Redis.from_url(url) as redis:
                await redis.set("{s00}:epoch", "e")
                await redis.xadd("{s00}:events", {"1": "in the base", "2": "too"})
                await redis.bgrewriteaof()
                while (await redis.info("persistence"))["aof_rewrite_in_progress"]:
                    await asyncio.sleep(0.05)
                drained = await redis.xadd("{s00}:events", {"1": "drained"})
                await redis.set("filler", "f" * 200)
                await redis.xdel("{s00}:events", drained)
                await redis.xadd("{s00}:events", {"1": "last"})
                before = await redis.xrange("{s00}:events")
            await engines.stop()
            files = folder / "valkey" / "appendonlydir"
            hurt(files, damage)
            url = (await engines.start()).redis_url
            async with Redis.from_url(url) as redis:
                if damage in ("base", "missing"):
                    before = before[1:]  # a snapshot has a checksum: it is whole, or cannot be read
                assert await redis.xrange("{s00}:events") == before
                assert int(await redis.get("{s00}:waiting")) == sum(len(fields) for _, fields in before)
                assert await redis.get("{s00}:epoch") is None
            (aside,) = (folder / "valkey").glob("damaged-*")
            assert any(f"it is kept as {aside}" in line for line in lines)
            assert list(aside.glob("*.incr.aof"))
            await engines.stop()
            await engines.start()  # the new file is whole
            assert len(list((folder / "valkey").glob("damaged-*"))) == 1
        finally:
            await engines.stop()


def hurt(files: Path, damage: str) -> None:
    increment = max(files.glob("*.incr.aof"))
    match damage:
        case "garbage at the end":
            with increment.open("ab") as file:
                file.write(GARBAGE)
        case "bytes in the middle":
            content = bytearray(increment.read_bytes())
            position = content.index(b"filler") - 8
            content[position : position + 4] = b"\x00\x00\x00\x00"
            increment.write_bytes(content)
        case "base":
            base = max(files.glob("*.base.rdb"))
            content = bytearray(base.read_bytes())
            content[len(content) // 2] ^= 0xFF
            base.write_bytes(content)
        case "missing":
            max(files.glob("*.base.rdb")).unlink()
        case "manifest":
            (files / "appendonly.aof.manifest").write_bytes(b"\x00 nothing\n")
