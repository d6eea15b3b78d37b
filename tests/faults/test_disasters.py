"""A full disk, a damaged append-only file, and an older copy of Redis: no acknowledged answer is lost or changed."""

from pathlib import Path

import pytest

from tests.faults.disasters import undergo_damaged_file, undergo_full_disk, undergo_older_copy
from tests.faults.installation import Installation
from tests.support.disk import NoSmallDiskError, small_disk

_DISK_MEGABYTES = 400


async def test_a_full_disk_stops_nothing_for_good(folder: Path) -> None:
    try:
        with small_disk(_DISK_MEGABYTES) as disk:
            installation = Installation(disk / "data", output=folder.with_name("output"))
            try:
                found = await undergo_full_disk(installation, disk)
            finally:
                status = await installation.stop()
    except NoSmallDiskError as error:
        pytest.skip(str(error))
    assert set(found.verdict.faults.values()) == {0}, found
    assert (found.known, found.forgotten, found.said) == (100, 0, 1), found
    assert status == 0


async def test_what_was_not_drained_is_read_from_a_damaged_file(folder: Path) -> None:
    installation = Installation(folder)
    try:
        verdict = await undergo_damaged_file(installation)
    finally:
        await installation.stop()
    assert set(verdict.faults.values()) == {0}, verdict
    assert "append-only file was damaged" in installation.output
    assert len(list((folder / "valkey").glob("damaged-*"))) == 1


async def test_an_older_copy_of_redis_is_not_believed(folder: Path) -> None:
    installation = Installation(folder)
    try:
        verdict = await undergo_older_copy(installation)
    finally:
        await installation.stop()
    assert set(verdict.faults.values()) == {0}, verdict
    assert "Redis holds an older copy" in installation.output
