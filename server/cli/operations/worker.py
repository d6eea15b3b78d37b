"""`samplit worker`: one more worker, on the stores of an installation that has some already."""

import asyncio

import uvloop
from prometheus_client import REGISTRY
from rich.console import Console

from server.cli.local import run_explained
from server.cli.options import DataDirectory
from server.cli.settings import load_settings, need_external_stores
from server.clock import system_clock
from server.logs import configure_logs
from server.runtime.supervision.scrape import serving
from server.runtime.worker import run_worker
from server.settings import Settings

console = Console()


def worker(data_dir: DataDirectory = None) -> None:
    """Run one more worker, for an installation with external stores."""
    configure_logs()
    settings = load_settings(data_dir=data_dir)
    need_external_stores(settings)
    run_explained(lambda: _run_with_metrics(settings))


def _run_with_metrics(settings: Settings) -> None:
    with serving(settings, REGISTRY) as address:
        uvloop.run(_run(settings, address))


async def _run(settings: Settings, metrics_address: str | None) -> None:
    ready = asyncio.Event()
    work = asyncio.create_task(run_worker(settings, system_clock, ready))
    started = asyncio.create_task(ready.wait())
    await asyncio.wait({work, started}, return_when=asyncio.FIRST_COMPLETED)
    started.cancel()
    if ready.is_set():
        console.print("the worker runs; stop it with Ctrl-C")
        if metrics_address:
            console.print(f"metrics: http://{metrics_address}/metrics")
    await work
