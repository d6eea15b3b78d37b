"""How much room there is on the disk of a data directory, and how much the engines need to go on."""

import os
from dataclasses import dataclass
from pathlib import Path

_LEAST_FREE = 32 << 20  # bytes: PostgreSQL writes its log in files of 16 MiB
_LEAST_SHARE = 8  # of a small disk, an eighth is enough


@dataclass(frozen=True)
class Room:
    """The free bytes of a disk that programs without privileges may use, and the least that must be free."""

    free: int
    least: int

    @property
    def is_enough(self) -> bool:
        """Return whether the engines can write for a while."""
        return self.free >= self.least

    def __str__(self) -> str:
        """Say both in megabytes."""
        return f"{self.free / 1e6:,.0f} MB are free, and {self.least / 1e6:,.0f} MB are needed"


def look_for_room(path: Path) -> Room:
    """Return the room on the disk of a folder. Without free inodes there is none. Raises OSError."""
    status = os.statvfs(path)
    has_inodes = status.f_files == 0 or status.f_favail > 0
    free = status.f_bavail * status.f_frsize if has_inodes else 0
    return Room(free, min(_LEAST_FREE, status.f_blocks * status.f_frsize // _LEAST_SHARE))
