"""`samplit alerts` and `notify-test`: what needs a look, and whether notices of it arrive."""

from typing import TYPE_CHECKING, Annotated

import typer

from server.cli.errors import CommandError
from server.cli.options import AdminAddress, DataDirectory

if TYPE_CHECKING:
    from samplit.admin.v1.alert_service_pb2 import Alert

app = typer.Typer(help="See what needs a look, and say that you have.", no_args_is_help=True)
_MOST_PAGE = 200


@app.command("list")
def list_alerts(
    experiment_id: Annotated[
        str, typer.Argument(metavar="[EXPERIMENT]", help="its id; all if left out", show_default=False)
    ] = "",
    every: Annotated[bool, typer.Option("--all", help="also those that are over")] = False,
    limit: Annotated[int, typer.Option(min=1, help="of alerts, raised last")] = 50,
    address: AdminAddress = None,
    data_dir: DataDirectory = None,
) -> None:
    """List alerts, raised last first."""
    from rich.console import Console
    from samplit.admin.v1.alert_service_pb2 import ListAlertsRequest

    from server.cli.client import alert_service
    from server.cli.views.alerts import alerts_table

    request = ListAlertsRequest(experiment_id=experiment_id, open_only=not every)
    alerts: list[Alert] = []
    with alert_service(address, data_dir) as service:
        while True:
            request.page_size = min(limit - len(alerts), _MOST_PAGE)
            page = service.ListAlerts(request)
            alerts += page.alerts
            request.page_token = page.next_page_token
            if not page.next_page_token or len(alerts) == limit:
                break
    if not alerts:
        typer.echo("there are no alerts" if every else "there are no open alerts")
        return
    table = alerts_table(alerts)
    if request.page_token:
        table.caption = "there are older ones: --limit shows more"
    Console().print(table)


@app.command()
def acknowledge(
    alert_id: Annotated[
        str, typer.Argument(metavar="ALERT", help="its id, as `samplit alerts list` shows it", show_default=False)
    ],
    address: AdminAddress = None,
    data_dir: DataDirectory = None,
) -> None:
    """Say that you look after an alert; it stays open until it is over."""
    from samplit.admin.v1.alert_service_pb2 import AcknowledgeAlertRequest

    from server.cli.client import alert_service
    from server.cli.views.experiments import format_time

    with alert_service(address, data_dir) as service:
        alert = service.AcknowledgeAlert(AcknowledgeAlertRequest(alert_id=alert_id)).alert
    typer.echo(f"acknowledged by {alert.acknowledged_by}, {format_time(alert.acknowledged_at)}: {alert.summary}")


def notify_test(
    owner: Annotated[
        str, typer.Option(metavar="ADDRESS", help="also to SAMPLIT_NOTIFY_OWNER_URL, with this e-mail address")
    ] = "",
) -> None:
    """Send a test notice to the URLs that are set in this environment, and say what came of it."""
    import asyncio

    from server.cli.local import load_settings
    from server.notifications.recipients import Recipients, describe_recipient
    from server.notifications.sender import send_test

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
