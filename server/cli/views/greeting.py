"""What `samplit serve` prints once it serves: where it listens, where its data lives, and a first call to paste."""

import json
import secrets
import shlex
import shutil
import sys
from pathlib import Path

from rich.console import Console

from server.runtime.endpoints import Endpoints
from server.settings import Settings


def greet(console: Console, settings: Settings, endpoints: Endpoints) -> None:
    """Print what a newcomer needs next."""
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


def _first_call(settings: Settings, endpoints: Endpoints) -> str:
    """Return a grpcurl command that creates an experiment, by reflection, under an id that is free."""
    security = [] if endpoints.tls else ["-plaintext"]
    if endpoints.tls_ca_file:
        security += ["-cacert", endpoints.tls_ca_file]
    if endpoints.tls_server_name:
        security += ["-authority", endpoints.tls_server_name]
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
    """Return the grpcurl on the PATH, or else the one that is installed beside this interpreter."""
    beside = Path(sys.executable).parent / "grpcurl"
    return str(beside) if shutil.which("grpcurl") is None and beside.exists() else "grpcurl"
