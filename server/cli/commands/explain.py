"""`samplit explain-assignment`: why a user got a variant."""

from typing import Annotated

import typer

from server.cli.options import AdminAddress, DataDirectory


def explain_assignment(
    experiment_id: Annotated[str, typer.Argument(metavar="EXPERIMENT", help="its id", show_default=False)],
    user: Annotated[str, typer.Argument(help="as given to AllocateUser", show_default=False)],
    address: AdminAddress = None,
    data_dir: DataDirectory = None,
) -> None:
    """Say why a user got the variant, and whether the log leads to it again."""
    from rich.console import Console
    from samplit.admin.v1.experiment_service_pb2 import ExplainAssignmentRequest

    from server.cli.client import experiment_service
    from server.cli.views.explain import because, explanation_fields, replayed

    request = ExplainAssignmentRequest(experiment_id=experiment_id, user_identifier=user)
    with experiment_service(address, data_dir) as service:
        answer = service.ExplainAssignment(request)
    console = Console()
    console.print(because(user, answer), highlight=False, markup=False)
    console.print(explanation_fields(answer))
    console.print(replayed(answer), highlight=False, markup=False)
