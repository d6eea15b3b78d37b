"""`samplit rebuild-posteriors` and `rebuild-redis`: makes again what follows from the log of assignments."""

import asyncio
import time
from dataclasses import replace
from typing import Annotated

import typer
from rich.console import Console

from server.cli.errors import CommandError
from server.cli.local import run_explained
from server.cli.operations.connections import open_postgres, open_redis
from server.cli.options import DataDirectory
from server.cli.settings import load_settings
from server.cli.views.differences import differences_table, differences_text
from server.clock import system_clock
from server.maintenance import rebuild_counts
from server.maintenance import rebuild_redis as redis_rebuilding
from server.maintenance.rebuild_counts import Differences
from server.settings import Settings

console = Console()


def rebuild_posteriors(
    check: Annotated[bool, typer.Option("--check", help="Only compare; status 1 if anything differs.")] = False,
    data_dir: DataDirectory = None,
) -> None:
    """Recompute the counts from the log of assignments, show every difference, and repair it.

    Posteriors follow from the counts: the worker publishes new ones within seconds. There should be no difference.
    """
    settings = load_settings(data_dir=data_dir)
    found = run_explained(lambda: asyncio.run(_compare(settings, repair=not check)))
    if found.failed:
        failed = "; ".join(f"number {number}: {error}" for number, error in found.failed.items())
        raise CommandError(f"{differences_text(found)} differ from the log; experiments that failed: {failed}")
    if not found:
        console.print("the counts agree with the log")
        return
    if found.counts:
        console.print(differences_table(found.counts))
    if check:
        raise CommandError(f"{differences_text(found)} differ from the log; without --check they are repaired")
    console.print(f"{differences_text(found)} are repaired")


def rebuild_redis(data_dir: DataDirectory = None) -> None:
    """Write into Redis again what PostgreSQL knows: users' variants, experiments, posteriors, API keys.

    Events that are not stored yet are stored first. Until it is done, users whom PostgreSQL knows keep their variant,
    and others get what their experiment says of outages. Needs a running worker, which does the work.
    """
    settings = load_settings(data_dir=data_dir)
    begin = time.monotonic()
    with console.status("rebuilding"):
        run_explained(lambda: asyncio.run(_rebuild_redis(settings)))
    console.print(f"Redis is rebuilt, in {time.monotonic() - begin:.1f} s")


async def _compare(settings: Settings, *, repair: bool) -> Differences:
    async with open_postgres(settings) as connection:
        found = await rebuild_counts.compare(connection)
        if repair:
            failed = await rebuild_counts.repair(connection, found, system_clock())
            found = replace(found, failed={**found.failed, **failed})
        return found


async def _rebuild_redis(settings: Settings) -> None:
    async with open_redis(settings) as redis:
        await redis_rebuilding.rebuild(redis, settings.shards)
