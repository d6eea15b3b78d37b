"""`samplit migrate`: brings the schema of an external PostgreSQL up to date."""

import asyncio

from rich.console import Console

from server.cli.local import run_explained
from server.cli.options import DataDirectory
from server.cli.settings import load_settings, need_external_stores
from storage.postgres.schema import migrate as migrate_schema

console = Console()


def migrate(data_dir: DataDirectory = None) -> None:
    """Bring the schema of SAMPLIT_POSTGRES_DSN up to date. `serve` does this too."""
    settings = load_settings(data_dir=data_dir)
    need_external_stores(settings)
    dsn, _ = settings.stores
    run_explained(lambda: asyncio.run(migrate_schema(dsn)))
    console.print("the schema is up to date")
