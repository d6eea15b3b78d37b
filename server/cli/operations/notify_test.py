"""`samplit notify-test`: whether notices arrive where the settings send them."""

import asyncio
from typing import Annotated

import typer

from server.cli.errors import CommandError
from server.cli.settings import load_settings
from server.notifications.recipients import Recipients, describe_recipient
from server.notifications.sender import send_test


def notify_test(
    owner: Annotated[
        str, typer.Option(metavar="ADDRESS", help="also to SAMPLIT_NOTIFY_OWNER_URL, with this e-mail address")
    ] = "",
) -> None:
    """Send a test notice to the URLs that are set in this environment, and say what came of it."""
    recipients = Recipients.of(load_settings())
    names = recipients.names_for(owner)
    if not names:
        raise CommandError(
            "nobody would get notices: set SAMPLIT_NOTIFY_URLS, or SAMPLIT_NOTIFY_OWNER_URL and --owner ADDRESS"
        )
    failures = asyncio.run(send_test(recipients, owner))
    for name in names:
        typer.echo(f"{describe_recipient(name, owner)}: {failures.get(name) or 'sent'}")
    if failures:
        raise CommandError(f"{len(failures)} of {len(names)} recipients got nothing")
