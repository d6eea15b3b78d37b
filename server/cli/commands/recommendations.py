"""`samplit check-eligibility` and `recommendations`: whether to segment."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from samplit.admin.v1.experiment_pb2 import EXPERIMENT_STATE_RUNNING
from samplit.admin.v1.experiment_service_pb2 import ListExperimentsRequest
from samplit.admin.v1.experiment_service_pb2_grpc import ExperimentServiceStub
from samplit.admin.v1.recommendation_service_pb2 import (
    RECOMMENDATION_STATE_OPEN,
    RECOMMENDATION_STATE_UNSPECIFIED,
    AcceptRecommendationRequest,
    CheckEligibilityRequest,
    DismissRecommendationRequest,
    ListRecommendationsRequest,
)
from samplit.admin.v1.recommendation_service_pb2_grpc import RecommendationServiceStub

from server.cli.client import open_service
from server.cli.options import AdminAddress, DataDirectory
from server.cli.paging import read_list
from server.cli.views.recommendations import check_lines, recommendations_table

app = typer.Typer(help="See, accept and dismiss what is recommended.", no_args_is_help=True)
RecommendationId = Annotated[str, typer.Argument(metavar="RECOMMENDATION", help="its id", show_default=False)]


def check_eligibility(
    experiments: Annotated[
        list[str] | None, typer.Argument(metavar="[EXPERIMENT]…", help="ids; all running experiments if left out")
    ] = None,
    look: Annotated[bool, typer.Option("--look", help="only look: propose nothing, and change nothing")] = False,
    address: AdminAddress = None,
    data_dir: DataDirectory = None,
) -> None:
    """Look whether experiments should be segmented, as a worker does every six hours."""
    console = Console()
    with open_service(RecommendationServiceStub, address, data_dir) as service:
        for experiment_id in experiments or _running(address, data_dir):
            request = CheckEligibilityRequest(experiment_id=experiment_id, validate_only=look)
            console.print(check_lines(experiment_id, service.CheckEligibility(request)), highlight=False)


@app.command("list")
def list_recommendations(
    experiment_id: Annotated[str, typer.Argument(metavar="[EXPERIMENT]", help="its id; all if left out")] = "",
    decided: Annotated[bool, typer.Option("--all", help="also those that were decided or withdrawn")] = False,
    address: AdminAddress = None,
    data_dir: DataDirectory = None,
) -> None:
    """List what is recommended, the newest first."""
    state = RECOMMENDATION_STATE_UNSPECIFIED if decided else RECOMMENDATION_STATE_OPEN
    request = ListRecommendationsRequest(experiment_id=experiment_id, state=state)
    with open_service(RecommendationServiceStub, address, data_dir) as service:
        found = read_list(service.ListRecommendations, request, lambda page: page.recommendations).items
    if found:
        Console().print(recommendations_table(found))
    else:
        typer.echo("nothing is recommended")


@app.command()
def accept(recommendation_id: RecommendationId, address: AdminAddress = None, data_dir: DataDirectory = None) -> None:
    """Accept a recommendation: Samplit does what it says."""
    with open_service(RecommendationServiceStub, address, data_dir) as service:
        request = AcceptRecommendationRequest(recommendation_id=recommendation_id)
        accepted = service.AcceptRecommendation(request).recommendation
    typer.echo(f"{accepted.experiment_id}: {accepted.summary}")


@app.command()
def dismiss(
    recommendation_id: RecommendationId,
    reason: Annotated[str, typer.Option(help="why you dismiss it, for the audit")] = "",
    address: AdminAddress = None,
    data_dir: DataDirectory = None,
) -> None:
    """Dismiss a recommendation until its evidence is ten times as strong."""
    with open_service(RecommendationServiceStub, address, data_dir) as service:
        request = DismissRecommendationRequest(recommendation_id=recommendation_id, reason=reason)
        dismissed = service.DismissRecommendation(request).recommendation
    typer.echo(f"{dismissed.experiment_id}: dismissed: {dismissed.summary}")


def _running(address: str | None, data_dir: Path | None) -> list[str]:
    """Return the ids of all running experiments."""
    request = ListExperimentsRequest(state=EXPERIMENT_STATE_RUNNING)
    with open_service(ExperimentServiceStub, address, data_dir) as service:
        experiments = read_list(service.ListExperiments, request, lambda page: page.experiments)
    return [experiment.experiment_id for experiment in experiments.items]
