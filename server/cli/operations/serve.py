"""`samplit serve`: the server with its worker and engines, in the foreground."""

import asyncio
from typing import Annotated

import structlog
import typer
from rich.console import Console

from server.cli.local import run_explained
from server.cli.options import DataDirectory
from server.cli.settings import load_settings
from server.cli.views.greeting import greet
from server.logs import configure_logs
from server.runtime.supervision.endpoints import Endpoints
from server.runtime.supervision.supervisor import Supervisor

console = Console()
log = structlog.get_logger()


def serve(
    data_dir: DataDirectory = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Data plane; 0 takes a free one.")] = None,
    admin_port: Annotated[int | None, typer.Option(help="Control plane; 0 takes a free one.")] = None,
    metrics_port: Annotated[
        str | None, typer.Option(help="Prometheus endpoint; 0 takes a free one, off has none.")
    ] = None,
    processes: Annotated[int | None, typer.Option(help="Server processes that share the ports.")] = None,
    allow_plaintext: Annotated[bool | None, typer.Option(help="Listen beyond loopback without TLS.")] = None,
    allow_volatile_redis: Annotated[
        bool | None, typer.Option(help="Use a Redis without an append-only file, which may lose users and conversions.")
    ] = None,
) -> None:
    """Start the server.

    It brings PostgreSQL and Valkey along, unless SAMPLIT_POSTGRES_DSN and SAMPLIT_REDIS_URL name others.
    """
    configure_logs()
    settings = load_settings(
        data_dir=data_dir,
        host=host,
        port=port,
        admin_port=admin_port,
        metrics_port=metrics_port,
        processes=processes,
        allow_plaintext=allow_plaintext,
        allow_volatile_redis=allow_volatile_redis,
    )
    is_first_start = not settings.api_key_file.exists()
    with console.status("starting") as status:

        def report(line: str) -> None:
            status.update(line)
            if not console.is_terminal:
                log.info(line)

        def started(endpoints: Endpoints) -> None:
            status.stop()
            greet(console, settings, endpoints, is_first_start=is_first_start)

        run_explained(lambda: asyncio.run(Supervisor(settings, report).run(started)))
