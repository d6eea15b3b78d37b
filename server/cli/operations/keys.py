"""`samplit keys`: API keys of an installation on this machine."""

import asyncio
from datetime import timedelta
from typing import Annotated

import typer
from rich.console import Console

from server.cli.durations import parse_seconds
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
from storage.encryption import Secrets, has_secrets, load_secrets, write_secret
from storage.postgres.operations import api_keys as stored_keys
from storage.postgres.operations.api_keys import ApiKey

app = typer.Typer(help="API keys: create, list, rotate, revoke.", no_args_is_help=True)
console = Console()
ExpiresIn = Annotated[
    str | None, typer.Option("--expires-in", metavar="DURATION", help="how long the key works: 90d, 12h, …")
]
_ACTOR = "cli"  # in the audit: whoever may run commands on this machine


@app.command("create")
def create_key(
    name: Annotated[str, typer.Argument(help="What the key is for.")],
    scope: Annotated[list[str] | None, typer.Option(help="allocate or admin; repeatable. Default: allocate.")] = None,
    expires_in: ExpiresIn = None,
    data_dir: DataDirectory = None,
) -> None:
    """Make a key and print it, alone on stdout. It is shown only once."""
    settings = load_settings(data_dir=data_dir)
    scopes = tuple(dict.fromkeys(scope or ["allocate"]))
    lifetime = _lifetime(expires_in)
    key = run_explained(lambda: asyncio.run(_create(settings, name, scopes, lifetime)))
    typer.echo(f"key {key.key_id} with {' and '.join(scopes)}; it is shown only now:", err=True)
    typer.echo(key.text)


@app.command("list")
def list_keys(data_dir: DataDirectory = None) -> None:
    """Show all keys, without their secrets."""
    settings = load_settings(data_dir=data_dir)
    console.print(keys_table(run_explained(lambda: asyncio.run(_list(settings)))))


@app.command("rotate")
def rotate_key(
    key_id: Annotated[str, typer.Argument(help="As `samplit keys list` shows it.")],
    grace: Annotated[str, typer.Option(metavar="DURATION", help="how long the old key still works")] = "24h",
    expires_in: ExpiresIn = None,
    data_dir: DataDirectory = None,
) -> None:
    """Make a new key with the name and scopes of another one, and print it. The old key expires after the grace.

    The new key works as long as the old one was made for, unless --expires-in says otherwise.
    """
    settings = load_settings(data_dir=data_dir)
    seconds, lifetime = parse_seconds(grace), _lifetime(expires_in)
    key = run_explained(lambda: asyncio.run(_rotate(settings, key_id, timedelta(seconds=seconds), lifetime)))
    if _is_own_key(settings, key_id):
        write_secret(settings.api_key_file, key.text)
        typer.echo(f"{settings.api_key_file} has the new key: copy it to the other machines", err=True)
    typer.echo(f"key {key.key_id} replaces {key_id}, which works for {grace}; it is shown only now:", err=True)
    typer.echo(key.text)


@app.command("revoke")
def revoke_key(
    key_id: Annotated[str, typer.Argument(help="As `samplit keys list` shows it.")], data_dir: DataDirectory = None
) -> None:
    """Revoke a key for good."""
    settings = load_settings(data_dir=data_dir)
    if not run_explained(lambda: asyncio.run(_revoke(settings, key_id))):
        raise CommandError(f"there is no open key {key_id!r}: `samplit keys list` shows all keys")
    console.print(f"key {key_id} is revoked")


def _lifetime(text: str | None) -> timedelta | None:
    """Return how long a key shall work. Raises CommandError."""
    if text is None:
        return None
    seconds = parse_seconds(text)
    if seconds == 0:
        raise CommandError("--expires-in must be longer than 0: leave it out for a key that never expires")
    return timedelta(seconds=seconds)


def _is_own_key(settings: Settings, key_id: str) -> bool:
    """Return whether commands on this machine use the key."""
    try:
        return api_keys.read_key(settings.api_key_file.read_text().strip()).key_id == key_id
    except (OSError, ValueError):
        return False


async def _create(settings: Settings, name: str, scopes: tuple[str, ...], lifetime: timedelta | None) -> NewKey:
    async with open_postgres(settings) as connection, open_redis(settings) as redis:
        return await api_keys.create(
            connection,
            redis,
            _secrets(settings),
            name=name,
            scopes=scopes,
            lifetime=lifetime,
            actor=_ACTOR,
            now=system_clock(),
        )


async def _rotate(settings: Settings, key_id: str, grace: timedelta, lifetime: timedelta | None) -> NewKey:
    async with open_postgres(settings) as connection, open_redis(settings) as redis:
        return await api_keys.rotate(
            connection,
            redis,
            _secrets(settings),
            key_id,
            grace=grace,
            lifetime=lifetime,
            actor=_ACTOR,
            now=system_clock(),
        )


async def _list(settings: Settings) -> list[ApiKey]:
    async with open_postgres(settings) as connection:
        return await stored_keys.list_all(connection)


async def _revoke(settings: Settings, key_id: str) -> bool:
    async with open_postgres(settings) as connection, open_redis(settings) as redis:
        return await api_keys.revoke(connection, redis, _secrets(settings), key_id, actor=_ACTOR, now=system_clock())


def _secrets(settings: Settings) -> Secrets | None:
    """Return the secrets of the installation, or None if this machine has none: then none are made."""
    return load_secrets(settings.secrets_directory) if has_secrets(settings.secrets_directory) else None
