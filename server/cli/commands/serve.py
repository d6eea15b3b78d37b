"""`samplit serve`: the options of the supervisor, what it is doing, and a first call to paste."""

import asyncio
import json
import secrets
import shlex
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from server.cli.local import load_settings, run_explained
from server.cli.options import DataDirectory
from server.runtime.endpoints import Endpoints

if TYPE_CHECKING:
    from server.settings import Settings

console = Console()


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
) -> None:
    """Start the server.

    It brings PostgreSQL and Valkey along, unless SAMPLIT_POSTGRES_DSN and SAMPLIT_REDIS_URL name others.
    """
    from server.logs import configure_logs
    from server.runtime.supervisor import Supervisor

    configure_logs()
    settings = load_settings(
        data_dir=data_dir,
        host=host,
        port=port,
        admin_port=admin_port,
        metrics_port=metrics_port,
        processes=processes,
        allow_plaintext=allow_plaintext,
    )
    with console.status("starting") as status:

        def report(line: str) -> None:
            status.update(line)
            if not console.is_terminal:
                console.print(line)

        def started(endpoints: Endpoints) -> None:
            status.stop()
            _greet(settings, endpoints)

        run_explained(lambda: asyncio.run(Supervisor(settings, report).run(started)))


def _greet(settings: "Settings", endpoints: Endpoints) -> None:
    """Where it listens, where its data lives, and one complete call."""
    stores = "embedded PostgreSQL and Valkey" if settings.postgres_dsn is None else "external PostgreSQL and Redis"
    console.print(f"\n[bold]Samplit is serving[/bold] on {stores}")
    console.print(f"  allocation  {endpoints.allocation}")
    console.print(f"  admin       {endpoints.admin}")
    if endpoints.metrics:
        console.print(f"  metrics     http://{endpoints.metrics}/metrics")
    console.print(f"  data        {settings.data_dir.absolute()}", soft_wrap=True)
    console.print("\nCreate an experiment, from another terminal:\n")
    console.print("  " + _first_call(settings, endpoints), soft_wrap=True, markup=False, highlight=False)
    console.print("\nStop with Ctrl-C.")


def _first_call(settings: "Settings", endpoints: Endpoints) -> str:
    """A grpcurl command that creates an experiment, by reflection, under an id that is free."""
    security = ["-plaintext"]
    if endpoints.tls_certificate_file:
        security = ["-cacert", endpoints.tls_certificate_file]
    key = settings.api_key_file.read_text().strip()
    body = {
        "experiment": {
            "experiment_id": f"homepage-cta-{secrets.token_hex(2)}",
            "name": "Homepage CTA Test",
            "variants": [
                {"name": "Control", "content": {"text": "Sign up"}},
                {"name": "Variant A", "content": {"text": "Start now"}},
                {"name": "Variant B", "content": {"text": "Try it free"}},
            ],
        }
    }
    words = [_grpcurl(), *security, "-H", f"authorization: Bearer {key}", "-d", json.dumps(body)]
    return shlex.join([*words, endpoints.admin, "samplit.admin.v1.ExperimentService/CreateExperiment"])


def _grpcurl() -> str:
    """The one on the PATH, or the one installed beside this interpreter."""
    beside = Path(sys.executable).parent / "grpcurl"
    return str(beside) if shutil.which("grpcurl") is None and beside.exists() else "grpcurl"
