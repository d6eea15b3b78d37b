"""`samplit secrets`: the keyset that encrypts posteriors and cluster models."""

import asyncio
from collections.abc import Callable

import typer
from rich.console import Console

from server.cli.errors import CommandError
from server.cli.local import run_explained
from server.cli.operations.connections import open_postgres, open_redis
from server.cli.options import DataDirectory
from server.cli.settings import load_settings
from server.maintenance.reencrypt import Reencrypted, reencrypt
from server.settings import Settings
from storage.encryption import KEYSET_FILE, has_prepared_key, load_secrets, prepare_key, use_prepared_key

app = typer.Typer(help="The keys that encrypt stored state: prepare, rotate.", no_args_is_help=True)
console = Console()


@app.command("prepare")
def prepare(data_dir: DataDirectory = None) -> None:
    """Add a key to the keyset, which encrypts nothing yet. Only needed if several machines share the keyset.

    Then copy the keyset to all machines, so that each of them can read what the new key will encrypt.
    """
    settings = load_settings(data_dir=data_dir)
    run_explained(lambda: prepare_key(settings.secrets_directory))
    path = settings.secrets_directory / KEYSET_FILE
    console.print(
        f"{path} has a new key: copy the file to all other machines, then call `samplit secrets rotate` here",
        soft_wrap=True,
    )


@app.command("rotate")
def rotate(data_dir: DataDirectory = None) -> None:
    """Encrypt with a new key from now on, and encrypt anew what is stored, while the server serves.

    The running processes take the key up by themselves. Old keys stay in the keyset, so that old backups can be read.
    """
    settings = load_settings(data_dir=data_dir)
    with console.status("encrypting") as status:
        done = run_explained(
            lambda: asyncio.run(
                _rotate(settings, lambda so_far: status.update(f"encrypting: {so_far.replaced} states are done"))
            )
        )
    console.print(f"a new key encrypts from now on; {done.replaced} stored states are encrypted with it")
    if settings.postgres_dsn is not None:
        path = settings.secrets_directory / KEYSET_FILE
        console.print(
            f"copy {path} to all other machines again: until then they encrypt with the old key", soft_wrap=True
        )
    if done.unreadable:
        raise CommandError(f"{done.unreadable} states can be read with no key: they stay as they are; see above")


async def _rotate(settings: Settings, report: Callable[[Reencrypted], None]) -> Reencrypted:
    folder = settings.secrets_directory
    async with open_postgres(settings) as connection, open_redis(settings) as redis:
        if settings.postgres_dsn is None:
            prepare_key(folder)
        elif not has_prepared_key(folder):
            raise CommandError(
                "several machines may share these stores: call `samplit secrets prepare` first, copy the keyset to all "
                "of them, and then call this again"
            )
        use_prepared_key(folder)
        return await reencrypt(connection, redis, load_secrets(folder), report)
