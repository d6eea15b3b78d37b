"""The account that the engines run as if Samplit runs as root: PostgreSQL refuses to run as root."""

import os
import pwd
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Account:
    """A user id and a group id. Processes of the account have no other groups."""

    uid: int
    gid: int

    def can_enter(self, path: Path) -> bool:
        """Return whether this account may enter `path` and every folder above it."""
        resolved = path.resolve()
        return all(self._may(folder, 0o1) for folder in (resolved, *resolved.parents) if folder.is_dir())

    def _may(self, path: Path, bit: int) -> bool:
        status = path.stat()
        shift = 6 if status.st_uid == self.uid else 3 if status.st_gid == self.gid else 0
        return bool(status.st_mode >> shift & bit)


def engine_account(existing: Path) -> Account | None:
    """Return the account for the engines, None unless Samplit runs as root.

    It is the owner of `existing` files, or `postgres`, or `nobody`.
    """
    if os.geteuid() != 0:
        return None
    if existing.exists() and existing.stat().st_uid != 0:
        status = existing.stat()
        return Account(status.st_uid, status.st_gid)
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(entry.pw_uid, entry.pw_gid)
    return Account(65534, 65534)


def own(path: Path, account: Account | None) -> None:
    """Give a file to the account of the engines, if there is one."""
    if account is not None:
        os.chown(path, account.uid, account.gid)
