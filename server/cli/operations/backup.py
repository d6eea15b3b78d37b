"""`samplit backup` and `samplit restore`: an installation with embedded engines as a folder."""

import asyncio
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from server.cli.errors import CommandError
from server.cli.local import run_explained
from server.cli.operations.connections import open_redis
from server.cli.options import DataDirectory
from server.cli.settings import load_settings
from server.clock import system_clock
from server.maintenance import backup as backups
from server.maintenance.backup import Description
from server.settings import Settings

console = Console()
_EXTERNAL = (
    "PostgreSQL is not embedded here (SAMPLIT_POSTGRES_DSN is set): back it up and restore it with its own tools, "
    "together with the folder secrets/ of the data directory"
)


def backup(
    target: Annotated[Path, typer.Argument(metavar="DIR", help="a new or an empty folder", show_default=False)],
    data_dir: DataDirectory = None,
) -> None:
    """Back up the installation that runs on this machine into a folder, while it serves.

    Everything that was acknowledged before the command began is in the backup. It has the secrets too: keep it as safe
    as a password.
    """
    settings = load_settings(data_dir=data_dir)
    begin = time.monotonic()
    done = _run_with_status(settings, lambda report: _back_up(settings, target, report))
    console.print(
        f"{target} has everything that was acknowledged before {done.taken_at:%Y-%m-%d %H:%M:%S} UTC, "
        f"after {time.monotonic() - begin:.1f} s; it has the secrets too: keep it as safe as a password",
        soft_wrap=True,
    )


def restore(
    source: Annotated[
        Path, typer.Argument(metavar="DIR", help="a folder made by `samplit backup`", show_default=False)
    ],
    data_dir: DataDirectory = None,
) -> None:
    """Restore a backup into a data directory that holds no installation. Start the server on it afterwards.

    Redis starts empty and is refilled by the worker, from what the backup has.
    """
    settings = load_settings(data_dir=data_dir)
    done = _run_with_status(settings, lambda report: backups.restore(source, settings.data_dir, report))
    shards = f" with SAMPLIT_SHARDS={done.shards}" if done.shards != settings.shards else ""
    console.print(
        f"{settings.data_dir} has what was acknowledged before {done.taken_at:%Y-%m-%d %H:%M:%S} UTC: "
        f"start it with `samplit serve`{shards}",
        soft_wrap=True,
    )


def _run_with_status(
    settings: Settings, work: Callable[[Callable[[str], None]], Coroutine[Any, Any, Description]]
) -> Description:
    if settings.postgres_dsn is not None:
        raise CommandError(_EXTERNAL)
    with console.status("starting") as status:
        try:
            return run_explained(lambda: asyncio.run(work(status.update)))
        except OSError as error:
            raise CommandError(f"{error.filename}: {error.strerror}") from error


async def _back_up(settings: Settings, target: Path, report: Callable[[str], None]) -> Description:
    async with open_redis(settings) as redis:
        return await backups.back_up(settings.data_dir, redis, settings.shards, target, system_clock(), report)
