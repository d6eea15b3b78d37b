"""`samplit reset`: deletes everything that an installation keeps."""

import asyncio
from contextlib import closing
from typing import Annotated

import typer
from rich.console import Console

from server.cli.local import run_explained
from server.cli.operations.connections import open_redis
from server.cli.options import DataDirectory
from server.cli.settings import load_settings
from server.maintenance.reset import reset_embedded, reset_external
from server.settings import Settings
from storage.engines.directory import DataDirectory as OpenDirectory

console = Console()


def reset(
    data_dir: DataDirectory = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Delete every experiment, assignment, conversion and key. Stop the server first."""
    settings = load_settings(data_dir=data_dir)
    what = str(settings.data_dir) if settings.postgres_dsn is None else "the configured PostgreSQL and Redis"
    if not yes:
        typer.confirm(f"Delete everything that Samplit keeps in {what}?", abort=True)
    run_explained(lambda: asyncio.run(_reset(settings)))
    console.print("everything is deleted")


async def _reset(settings: Settings) -> None:
    with closing(OpenDirectory.open(settings.data_dir)) as directory:
        if settings.postgres_dsn is None:
            await reset_embedded(directory)
        else:
            dsn, _ = settings.stores
            async with open_redis(settings) as redis:
                await reset_external(directory, dsn, redis)
