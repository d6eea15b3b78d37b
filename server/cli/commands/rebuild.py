"""`samplit rebuild-…`: what follows from the log of assignments, made again: counts, and all that Redis holds."""

import asyncio
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from server.cli.errors import CommandError
from server.cli.local import load_settings, run_explained, with_running_stores
from server.cli.options import DataDirectory

if TYPE_CHECKING:
    from server.settings import Settings
    from storage.postgres.counts.recount import Difference

console = Console()
_LOOK_SECONDS = 0.1


def rebuild_posteriors(
    check: Annotated[bool, typer.Option("--check", help="Only compare; status 1 if anything differs.")] = False,
    data_dir: DataDirectory = None,
) -> None:
    """Recompute the counts from the log of assignments, show every difference, and repair it.

    Posteriors follow from the counts: the worker publishes new ones within seconds. There should be no difference.
    """
    settings = load_settings(data_dir=data_dir)
    found, by_dimension = run_explained(lambda: asyncio.run(_compare(settings, mend=not check)))
    if not found and not by_dimension:
        console.print("the counts agree with the log")
        return
    table = Table("experiment", "segment", "variant", "day", "trials", "successes", title="the log less the counts")
    for each in found:
        table.add_row(
            str(each.experiment),
            str(each.segment),
            str(each.variant),
            str(each.day),
            f"{each.trials:+}",
            f"{each.successes:+}",
        )
    if found:
        console.print(table)
    differ = f"{len(found)} counts, and {by_dimension} by dimension,"
    if check:
        raise CommandError(f"{differ} differ from the log; without --check they are repaired")
    console.print(f"{differ} are repaired")


def rebuild_redis(data_dir: DataDirectory = None) -> None:
    """Write into Redis again what PostgreSQL knows: users' variants, experiments, posteriors, API keys.

    Events that are not stored yet are stored first. Until it is done, users whom PostgreSQL knows keep their variant,
    and others get what their experiment says of outages. Needs a running worker, which does the work.
    """
    settings = load_settings(data_dir=data_dir)
    with console.status("rebuilding"):
        seconds = run_explained(lambda: asyncio.run(_rebuild_redis(settings)))
    console.print(f"Redis is rebuilt, in {seconds:.1f} s")


async def _rebuild_redis(settings: "Settings") -> float:
    from storage.redis import publications, streams
    from storage.redis.client import create_client

    begin = time.monotonic()
    redis = create_client(with_running_stores(settings).stores[1])
    try:
        await publications.forget_all(redis)
        for shard in range(settings.shards):
            await streams.close_shard(redis, shard)
        while None in await streams.epochs(redis, settings.shards):  # noqa: ASYNC110 (the worker gives them)
            await asyncio.sleep(_LOOK_SECONDS)
        return time.monotonic() - begin
    finally:
        await redis.aclose()


async def _compare(settings: "Settings", *, mend: bool) -> "tuple[list[Difference], int]":
    """Cells that differ, and how many of the counts by dimension do."""
    from storage.postgres.counts import dimensions
    from storage.postgres.counts.cohorts import recount_all
    from storage.postgres.counts.recount import differences, repair
    from storage.postgres.pool import connect

    connection = await connect(with_running_stores(settings).stores[0])
    try:
        found = await differences(connection)
        by_dimension = await dimensions.differences(connection)
        if mend:
            await repair(connection, found)
            await recount_all(connection, datetime.now(UTC))
            await dimensions.repair(connection)
        return found, by_dimension
    finally:
        await connection.close()
