"""The files in which the processes of a server keep their metrics, safe on a full disk.

prometheus_client maps a file with holes into memory. On a full disk, the kernel kills a process that writes into a hole
(SIGBUS). Here the space is allocated first; if there is none, the metrics stay in memory, where no scrape sees them.
"""

import mmap
import os
import struct
from contextlib import suppress

from prometheus_client import values
from prometheus_client.mmap_dict import MmapedDict

FOLDER_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"  # a process that imports prometheus_client with it writes files there
_INITIAL_BYTES = 1 << 16
_ENTRY_BYTES = 4 + 8 + 16  # of an entry, besides its key: a length, padding, and two numbers
_HEADER_BYTES = 8


class AllocatedDict(MmapedDict):
    """A dict of numbers in a file whose space is allocated, or in memory."""

    def __init__(self, filename: str, read_mode: bool = False) -> None:
        if read_mode or _allocate(filename, _INITIAL_BYTES):
            super().__init__(filename, read_mode)  # type: ignore[no-untyped-call]
            return
        self._f = None  # type: ignore[assignment] # of a dict in memory
        self._fname = filename
        self._m = mmap.mmap(-1, _INITIAL_BYTES)
        self._capacity = _INITIAL_BYTES
        self._positions = {}
        self._used = _HEADER_BYTES
        self._m[:4] = struct.pack("i", self._used)

    def _init_value(self, key: str) -> None:
        if self._used + len(key.encode()) + _ENTRY_BYTES > self._capacity:
            self._grow()
        super()._init_value(key)  # type: ignore[no-untyped-call]

    def _grow(self) -> None:
        content = self._m[:]
        capacity = 2 * self._capacity
        if self._f is not None and _allocate(self._fname, capacity):
            self._m = mmap.mmap(self._f.fileno(), capacity)
        else:
            self._m = mmap.mmap(-1, capacity)
            self._m[: len(content)] = content
        self._capacity = capacity

    def close(self) -> None:
        """Close the file, if there is one."""
        if self._f is not None:
            super().close()  # type: ignore[no-untyped-call]


def use_allocated_files() -> None:
    """Let prometheus_client keep the values of this process in such files. Call it before there are metrics.

    The library asks the system for the process id at each observation, in case that the process was forked. None of
    ours is, and those system calls were a third of the processor time of a returning user's call.
    """
    setattr(values, "MmapedDict", AllocatedDict)  # noqa: B010 (a name that the module does not export)
    if FOLDER_VARIABLE in os.environ:
        process_id = os.getpid()
        values.ValueClass = values.MultiProcessValue(lambda: process_id)  # type: ignore[no-untyped-call]


def _allocate(path: str, size: int) -> bool:
    """Give a file this size on the disk. Returns False if there is no room; a new file is not left behind then."""
    is_new = not os.path.exists(path)
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(descriptor, 0, size)
            elif (missing := size - os.fstat(descriptor).st_size) > 0:
                os.pwrite(descriptor, bytes(missing), size - missing)
        finally:
            os.close(descriptor)
    except OSError:
        if is_new:
            with suppress(OSError):
                os.unlink(path)
        return False
    return True
