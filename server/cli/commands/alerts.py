"""`samplit alerts`: lists what needs a look, and acknowledges it."""

from typing import Annotated

import typer
from rich.console import Console
from samplit.admin.v1.alert_service_pb2 import AcknowledgeAlertRequest, ListAlertsRequest
from samplit.admin.v1.alert_service_pb2_grpc import AlertServiceStub

from server.cli.client import open_service
from server.cli.options import AdminAddress, DataDirectory
from server.cli.paging import read_list
from server.cli.views.alerts import alerts_table
from server.cli.views.formats import OLDER_ONES, format_time

app = typer.Typer(help="See what needs a look, and say that you have.", no_args_is_help=True)


@app.command("list")
def list_alerts(
    experiment_id: Annotated[
        str, typer.Argument(metavar="[EXPERIMENT]", help="its id; all if left out", show_default=False)
    ] = "",
    every: Annotated[bool, typer.Option("--all", help="also alerts that are over")] = False,
    limit: Annotated[int, typer.Option(min=1, help="at most so many alerts, those raised last")] = 50,
    address: AdminAddress = None,
    data_dir: DataDirectory = None,
) -> None:
    """List alerts, raised last first."""
    request = ListAlertsRequest(experiment_id=experiment_id, open_only=not every)
    with open_service(AlertServiceStub, address, data_dir) as service:
        alerts = read_list(service.ListAlerts, request, lambda page: page.alerts, limit)
    if not alerts.items:
        typer.echo("there are no alerts" if every else "there are no open alerts")
        return
    table = alerts_table(alerts.items)
    table.caption = OLDER_ONES if alerts.has_more else None
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
    with open_service(AlertServiceStub, address, data_dir) as service:
        alert = service.AcknowledgeAlert(AcknowledgeAlertRequest(alert_id=alert_id)).alert
    typer.echo(f"acknowledged by {alert.acknowledged_by}, {format_time(alert.acknowledged_at)}: {alert.summary}")
