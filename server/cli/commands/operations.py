"""The commands that run or look after an installation: serve, worker, migrate, reset, and those beside."""

import asyncio
import shutil
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from server.cli.commands import keys
from server.cli.commands.rebuild import rebuild_posteriors, rebuild_redis
from server.cli.commands.serve import serve
from server.cli.errors import CommandError
from server.cli.local import load_settings, run_explained
from server.cli.options import DataDirectory

if TYPE_CHECKING:
    from server.settings import Settings

console = Console()


def register(app: typer.Typer) -> None:
    """Add these commands to the application."""
    app.command()(serve)
    app.command()(worker)
    app.command()(migrate)
    app.command()(reset)
    app.command()(rebuild_posteriors)
    app.command()(rebuild_redis)
    app.add_typer(keys.app, name="keys")


def worker(data_dir: DataDirectory = None) -> None:
    """Run one more worker, for an installation with external stores."""
    import uvloop
    from prometheus_client import REGISTRY

    from server.clock import system_clock
    from server.logs import configure_logs
    from server.runtime.scrape import serving
    from server.runtime.worker import run_worker

    configure_logs()
    settings = load_settings(data_dir=data_dir)
    _need_external_stores(settings)

    async def run(address: str | None) -> None:
        ready = asyncio.Event()
        work = asyncio.create_task(run_worker(settings, system_clock, ready))
        started = asyncio.create_task(ready.wait())
        await asyncio.wait({work, started}, return_when=asyncio.FIRST_COMPLETED)
        started.cancel()
        if ready.is_set():
            console.print("the worker runs; stop it with Ctrl-C")
            if address:
                console.print(f"metrics: http://{address}/metrics")
        await work

    def run_with_metrics() -> None:
        with serving(settings, REGISTRY) as address:
            uvloop.run(run(address))

    run_explained(run_with_metrics)


def migrate(data_dir: DataDirectory = None) -> None:
    """Bring the schema of SAMPLIT_POSTGRES_DSN up to date. `serve` does this too."""
    from storage.postgres.schema import migrate as migrate_schema

    settings = load_settings(data_dir=data_dir)
    _need_external_stores(settings)
    run_explained(lambda: asyncio.run(migrate_schema(settings.stores[0])))
    console.print("the schema is up to date")


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


async def _reset(settings: "Settings") -> None:
    from storage.engines.directory import DataDirectory as Directory
    from storage.postgres.schema import drop_schema
    from storage.redis.client import create_client, delete_all

    directory = Directory.open(settings.data_dir)
    try:
        if settings.postgres_dsn is not None:
            dsn, url = settings.stores
            await drop_schema(dsn)
            redis = create_client(url)
            try:
                await delete_all(redis)
            finally:
                await redis.aclose()
        else:
            await directory.stop_orphans()
        for name in ("postgres", "valkey", "secrets", "metrics"):
            shutil.rmtree(directory.path / name, ignore_errors=True)
    finally:
        directory.close()


def _need_external_stores(settings: "Settings") -> None:
    if settings.postgres_dsn is None:
        raise CommandError(
            "set SAMPLIT_POSTGRES_DSN and SAMPLIT_REDIS_URL: `samplit serve` looks after the embedded engines itself"
        )
