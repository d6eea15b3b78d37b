"""`samplit audit`: who changed what."""

from typing import Annotated

import typer
from rich.console import Console
from samplit.admin.v1.audit_service_pb2 import ListAuditEventsRequest
from samplit.admin.v1.audit_service_pb2_grpc import AuditServiceStub

from server.cli.client import open_service
from server.cli.options import AdminAddress, DataDirectory
from server.cli.paging import read_list
from server.cli.views.audit import audit_table
from server.cli.views.formats import OLDER_ONES


def show_audit(
    experiment_id: Annotated[
        str, typer.Argument(metavar="EXPERIMENT", help="its id; all, and API keys, if left out", show_default=False)
    ] = "",
    actor: Annotated[str, typer.Option(help="who did it: the id of an API key, cli, or samplit (by itself)")] = "",
    action: Annotated[str, typer.Option(help="only actions that begin with this: experiment., key.created, …")] = "",
    limit: Annotated[int, typer.Option(min=1, help="at most so many events, the newest")] = 50,
    address: AdminAddress = None,
    data_dir: DataDirectory = None,
) -> None:
    """Show who changed what, the newest change first."""
    request = ListAuditEventsRequest(experiment_id=experiment_id, actor=actor, action_prefix=action)
    with open_service(AuditServiceStub, address, data_dir) as service:
        events = read_list(service.ListAuditEvents, request, lambda page: page.events, limit)
    table = audit_table(events.items)
    table.caption = OLDER_ONES if events.has_more else None
    Console().print(table)
