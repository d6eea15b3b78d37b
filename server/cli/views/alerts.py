"""Alerts as a table. Texts of users are never taken as markup."""

from collections.abc import Sequence
from datetime import UTC

from rich import box
from rich.table import Table
from samplit.admin.v1.alert_service_pb2 import Alert, AlertKind

from server.cli.views.formats import format_time, plain


def alerts_table(alerts: Sequence[Alert]) -> Table:
    """Show a row for each alert: what is wrong, its kind and id, and then who looks after it or when it ended."""
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("Raised, UTC", no_wrap=True)
    table.add_column("Alert", overflow="fold")
    for alert in alerts:
        table.add_row(f"{alert.raised_at.ToDatetime(UTC):%Y-%m-%d %H:%M}", plain("\n".join(_lines(alert))))
    return table


def _lines(alert: Alert) -> list[str]:
    kind = AlertKind.Name(alert.kind).removeprefix("ALERT_KIND_")
    lines = [f"{alert.experiment_id or 'Samplit'}: {alert.summary}", kind, alert.alert_id]
    if alert.HasField("acknowledged_at"):
        lines.append(f"acknowledged by {alert.acknowledged_by}, {format_time(alert.acknowledged_at)}")
    if alert.HasField("resolved_at"):
        lines.append(f"over since {format_time(alert.resolved_at)}")
    return lines
