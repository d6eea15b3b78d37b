"""`samplit keys`: API keys of an installation on this machine."""

import asyncio
from typing import Annotated

import typer
from rich.console import Console

from server.cli.errors import CommandError
from server.cli.local import run_explained
from server.cli.operations.connections import open_postgres, open_redis
from server.cli.options import DataDirectory
from server.cli.settings import load_settings
from server.cli.views.keys import keys_table
from server.clock import system_clock
from server.maintenance import api_keys
from server.maintenance.api_keys import NewKey
from server.settings import Settings
from storage.postgres.operations import api_keys as stored_keys
from storage.postgres.operations.api_keys import ApiKey

app = typer.Typer(help="API keys: create, list, revoke.", no_args_is_help=True)
console = Console()
_ACTOR = "cli"  # in the audit: whoever may run commands on this machine


@app.command("create")
def create_key(
    name: Annotated[str, typer.Argument(help="What the key is for.")],
    scope: Annotated[list[str] | None, typer.Option(help="allocate or admin; repeatable. Default: allocate.")] = None,
    data_dir: DataDirectory = None,
) -> None:
    """Make a key and print it, alone on stdout. It is shown only once."""
    settings = load_settings(data_dir=data_dir)
    scopes = tuple(dict.fromkeys(scope or ["allocate"]))
    key = run_explained(lambda: asyncio.run(_create(settings, name, scopes)))
    typer.echo(f"key {key.key_id} with {' and '.join(scopes)}; it is shown only now:", err=True)
    typer.echo(key.text)


@app.command("list")
def list_keys(data_dir: DataDirectory = None) -> None:
    """Show all keys, without their secrets."""
    settings = load_settings(data_dir=data_dir)
    console.print(keys_table(run_explained(lambda: asyncio.run(_list(settings)))))


@app.command("revoke")
def revoke_key(
    key_id: Annotated[str, typer.Argument(help="As `samplit keys list` shows it.")], data_dir: DataDirectory = None
) -> None:
    """Revoke a key for good."""
    settings = load_settings(data_dir=data_dir)
    if not run_explained(lambda: asyncio.run(_revoke(settings, key_id))):
        raise CommandError(f"there is no open key {key_id!r}: `samplit keys list` shows all keys")
    console.print(f"key {key_id} is revoked")


async def _create(settings: Settings, name: str, scopes: tuple[str, ...]) -> NewKey:
    async with open_postgres(settings) as connection, open_redis(settings) as redis:
        return await api_keys.create(connection, redis, name=name, scopes=scopes, actor=_ACTOR, now=system_clock())


async def _list(settings: Settings) -> list[ApiKey]:
    async with open_postgres(settings) as connection:
        return await stored_keys.list_all(connection)


async def _revoke(settings: Settings, key_id: str) -> bool:
    async with open_postgres(settings) as connection, open_redis(settings) as redis:
        return await api_keys.revoke(connection, redis, key_id, actor=_ACTOR, now=system_clock())
