"""A small disk for tests: a file system in memory, where the machine permits to mount one."""

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class NoSmallDiskError(Exception):
    """This machine does not permit to mount one."""


@contextmanager
def small_disk(megabytes: int) -> Iterator[Path]:
    """Yield a folder on a disk of this size. Raises NoSmallDiskError where it cannot be mounted."""
    folder = Path(tempfile.mkdtemp(prefix="smp"))
    options = f"size={megabytes}m,mode=0711"
    try:
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], capture_output=True, text=True, check=False
        )
        problem = mounted.stderr.strip()
    except FileNotFoundError as error:
        problem = str(error)
    else:
        if mounted.returncode == 0:
            try:
                yield folder
            finally:
                subprocess.run(["umount", "--lazy", folder], check=True)
                folder.rmdir()
            return
    folder.rmdir()
    raise NoSmallDiskError(f"no small disk can be mounted here: {problem}")


def fill(folder: Path) -> Path:
    """Write a file that takes all room of the disk, and return its path."""
    path = folder / "everything-else"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        for size in (1 << 20, 1 << 12, 1):
            try:
                while True:
                    os.write(descriptor, bytes(size))
            except OSError:
                continue
    finally:
        os.close(descriptor)
    return path
