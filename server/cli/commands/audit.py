"""`samplit audit`: who changed what."""

from typing import TYPE_CHECKING, Annotated

import typer

from server.cli.options import AdminAddress, DataDirectory

if TYPE_CHECKING:
    from samplit.admin.v1.audit_service_pb2 import AuditEvent

_MOST_PAGE = 200


def show_audit(
    experiment_id: Annotated[
        str, typer.Argument(metavar="EXPERIMENT", help="its id; all, and API keys, if left out", show_default=False)
    ] = "",
    actor: Annotated[str, typer.Option(help="id of an API key, cli, or samplit for itself")] = "",
    action: Annotated[str, typer.Option(help="how it begins: experiment., key.created, …")] = "",
    limit: Annotated[int, typer.Option(min=1, help="of events, the newest")] = 50,
    address: AdminAddress = None,
    data_dir: DataDirectory = None,
) -> None:
    """Show who changed what, the newest change first."""
    from rich.console import Console
    from samplit.admin.v1.audit_service_pb2 import ListAuditEventsRequest

    from server.cli.client import audit_service
    from server.cli.views.audit import audit_table

    request = ListAuditEventsRequest(experiment_id=experiment_id, actor=actor, action_prefix=action)
    events: list[AuditEvent] = []
    with audit_service(address, data_dir) as service:
        while True:
            request.page_size = min(limit - len(events), _MOST_PAGE)
            page = service.ListAuditEvents(request)
            events += page.events
            request.page_token = page.next_page_token
            if not page.next_page_token or len(events) == limit:
                break
    table = audit_table(events)
    if request.page_token:
        table.caption = "there are older ones: --limit shows more"
    Console().print(table)
