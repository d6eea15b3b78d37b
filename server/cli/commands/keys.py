"""`samplit keys`: API keys of an installation on this machine."""

from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from server.cli.errors import CommandError
from server.cli.local import load_settings
from server.cli.options import DataDirectory

app = typer.Typer(help="API keys: create, list, revoke.", no_args_is_help=True)
console = Console()


@app.command("create")
def create_key(
    name: Annotated[str, typer.Argument(help="What the key is for.")],
    scope: Annotated[list[str] | None, typer.Option(help="allocate or admin; repeatable. Default: allocate.")] = None,
    data_dir: DataDirectory = None,
) -> None:
    """Make a key and show it, once: alone on stdout."""
    from server.cli import key_store

    scopes = tuple(dict.fromkeys(scope or ["allocate"]))
    key = key_store.create(load_settings(data_dir=data_dir), name, scopes)
    typer.echo(f"key {key.key_id} with {' and '.join(scopes)}; it is shown only now:", err=True)
    typer.echo(key.text)


@app.command("list")
def list_keys(data_dir: DataDirectory = None) -> None:
    """Show all keys, without their secrets."""
    from server.cli import key_store

    table = Table("key", "name", "scopes", "created", "revoked")
    for key in key_store.list_all(load_settings(data_dir=data_dir)):
        table.add_row(key.key_id, key.name, ", ".join(key.scopes), _minute(key.created_at), _minute(key.revoked_at))
    console.print(table)


@app.command("revoke")
def revoke_key(
    key_id: Annotated[str, typer.Argument(help="As `samplit keys list` shows it.")], data_dir: DataDirectory = None
) -> None:
    """Close a key for good."""
    from server.cli import key_store

    if not key_store.revoke(load_settings(data_dir=data_dir), key_id):
        raise CommandError(f"there is no open key {key_id!r}")
    console.print(f"key {key_id} is revoked")


def _minute(at: datetime | None) -> str:
    return "" if at is None else f"{at.astimezone(UTC):%Y-%m-%d %H:%M}"
