"""What `samplit serve` prints once it serves: where it listens, where its data lives, and a first call to paste."""

import json
import secrets
import shlex
import shutil
import sys
from pathlib import Path

from rich.console import Console

from server.runtime.supervision.endpoints import Endpoints
from server.settings import Settings


def greet(console: Console, settings: Settings, endpoints: Endpoints, *, is_first_start: bool = False) -> None:
    """Print what a newcomer needs next.

    The API key itself is shown on a terminal at the first start alone: journals and logs of containers keep what is
    printed.
    """
    stores = "embedded PostgreSQL and Valkey" if settings.postgres_dsn is None else "external PostgreSQL and Redis"
    console.print(f"\n[bold]Samplit is serving[/bold] on {stores}")
    console.print(f"  allocation  {endpoints.allocation}")
    console.print(f"  admin       {endpoints.admin}")
    if endpoints.metrics:
        console.print(f"  metrics     http://{endpoints.metrics}/metrics")
    console.print(f"  data        {settings.data_dir.absolute()}", soft_wrap=True)
    console.print(f"  API key     {settings.api_key_file.absolute()}", soft_wrap=True)
    if is_first_start and console.is_terminal:
        key = settings.api_key_file.read_text().strip()
        console.print(f"              {key}", soft_wrap=True, markup=False, highlight=False)
    console.print("\nCreate an experiment, from another terminal:\n")
    console.print("  " + _first_call(settings, endpoints), soft_wrap=True, markup=False, highlight=False)
    console.print("\nStop with Ctrl-C.")


def _first_call(settings: Settings, endpoints: Endpoints) -> str:
    """Return a grpcurl command for a shell, which creates an experiment, by reflection, under an id that is free.

    The shell reads the key from its file.
    """
    security = [] if endpoints.tls else ["-plaintext"]
    if endpoints.tls_ca_file:
        security += ["-cacert", endpoints.tls_ca_file]
    if endpoints.tls_server_name:
        security += ["-authority", endpoints.tls_server_name]
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
    program = shlex.join([_grpcurl(), *security])
    key = f'"authorization: Bearer $(cat {shlex.quote(str(settings.api_key_file.absolute()))})"'
    method = "samplit.admin.v1.ExperimentService/CreateExperiment"
    return f"{program} -H {key} {shlex.join(['-d', json.dumps(body), endpoints.admin, method])}"


def _grpcurl() -> str:
    """Return the grpcurl on the PATH, or else the one that is installed beside this interpreter."""
    beside = Path(sys.executable).parent / "grpcurl"
    return str(beside) if shutil.which("grpcurl") is None and beside.exists() else "grpcurl"
