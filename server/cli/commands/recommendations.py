"""`samplit check-eligibility`, `recommendations` and `explain`: whether to segment, and why."""

from typing import TYPE_CHECKING, Annotated

import typer

from server.cli.options import AdminAddress, DataDirectory

if TYPE_CHECKING:
    from samplit.admin.v1.recommendation_service_pb2 import Recommendation

app = typer.Typer(help="See, accept and dismiss what is recommended.", no_args_is_help=True)
ExperimentId = Annotated[str, typer.Argument(metavar="EXPERIMENT", help="its id", show_default=False)]
RecommendationId = Annotated[str, typer.Argument(metavar="RECOMMENDATION", help="its id", show_default=False)]


def check_eligibility(
    experiments: Annotated[
        list[str] | None, typer.Argument(metavar="[EXPERIMENT]…", help="ids; all that run if left out")
    ] = None,
    look: Annotated[bool, typer.Option("--look", help="propose nothing, and change nothing")] = False,
    address: AdminAddress = None,
    data_dir: DataDirectory = None,
) -> None:
    """Look whether experiments should be segmented, as a worker does every six hours."""
    from rich.console import Console
    from samplit.admin.v1.recommendation_service_pb2 import CheckEligibilityRequest

    from server.cli.client import recommendation_service
    from server.cli.views.recommendations import check_lines

    console = Console()
    with recommendation_service(address, data_dir) as service:
        for experiment_id in experiments or _running(address, data_dir):
            request = CheckEligibilityRequest(experiment_id=experiment_id, validate_only=look)
            console.print(check_lines(experiment_id, service.CheckEligibility(request)), highlight=False)


@app.command("list")
def list_recommendations(
    experiment_id: Annotated[str, typer.Argument(metavar="[EXPERIMENT]", help="its id; all if left out")] = "",
    decided: Annotated[bool, typer.Option("--all", help="decided and withdrawn ones too")] = False,
    address: AdminAddress = None,
    data_dir: DataDirectory = None,
) -> None:
    """List what is recommended, the newest first."""
    from rich.console import Console
    from samplit.admin.v1 import recommendation_service_pb2 as pb

    from server.cli.client import recommendation_service
    from server.cli.views.recommendations import recommendations_table

    state = pb.RECOMMENDATION_STATE_UNSPECIFIED if decided else pb.RECOMMENDATION_STATE_OPEN
    request = pb.ListRecommendationsRequest(experiment_id=experiment_id, state=state, page_size=200)
    found: list[Recommendation] = []
    with recommendation_service(address, data_dir) as service:
        while True:
            page = service.ListRecommendations(request)
            found += page.recommendations
            if not page.next_page_token:
                break
            request.page_token = page.next_page_token
    if found:
        Console().print(recommendations_table(found))
    else:
        typer.echo("nothing is recommended")


@app.command()
def accept(recommendation_id: RecommendationId, address: AdminAddress = None, data_dir: DataDirectory = None) -> None:
    """Do what is recommended."""
    from samplit.admin.v1.recommendation_service_pb2 import AcceptRecommendationRequest

    from server.cli.client import recommendation_service

    with recommendation_service(address, data_dir) as service:
        request = AcceptRecommendationRequest(recommendation_id=recommendation_id)
        accepted = service.AcceptRecommendation(request).recommendation
    typer.echo(f"{accepted.experiment_id}: {accepted.summary}")


@app.command()
def dismiss(
    recommendation_id: RecommendationId,
    reason: Annotated[str, typer.Option(help="why")] = "",
    address: AdminAddress = None,
    data_dir: DataDirectory = None,
) -> None:
    """Set it aside, until its evidence is ten times as strong."""
    from samplit.admin.v1.recommendation_service_pb2 import DismissRecommendationRequest

    from server.cli.client import recommendation_service

    with recommendation_service(address, data_dir) as service:
        request = DismissRecommendationRequest(recommendation_id=recommendation_id, reason=reason)
        dismissed = service.DismissRecommendation(request).recommendation
    typer.echo(f"{dismissed.experiment_id}: dismissed: {dismissed.summary}")


def explain(experiment_id: ExperimentId, address: AdminAddress = None, data_dir: DataDirectory = None) -> None:
    """Say why an experiment is or is not segmented, what would change it, and how fresh everything is."""
    from rich.console import Console
    from samplit.admin.v1.clustering_service_pb2 import GetClusteringStatusRequest
    from samplit.admin.v1.experiment_pb2 import SEGMENTATION_MODE_AUTO, SEGMENTATION_MODE_DISABLED
    from samplit.admin.v1.recommendation_service_pb2 import CheckEligibilityRequest, GetSegmentationMetricsRequest
    from samplit.admin.v1.segmentation_service_pb2 import GetSegmentationConfigRequest

    from server.cli import client
    from server.cli.views.recommendations import explanation

    with client.segmentation_service(address, data_dir) as segmentations:
        asked = GetSegmentationConfigRequest(experiment_id=experiment_id)
        segmentation = segmentations.GetSegmentationConfig(asked).segmentation
    with client.recommendation_service(address, data_dir) as service:
        check = service.CheckEligibility(CheckEligibilityRequest(experiment_id=experiment_id, validate_only=True))
        metrics = None
        if segmentation.config.mode != SEGMENTATION_MODE_DISABLED:
            metrics = service.GetSegmentationMetrics(GetSegmentationMetricsRequest(experiment_id=experiment_id))
    clusters = None
    if SEGMENTATION_MODE_AUTO in (segmentation.config.mode, segmentation.pending.mode):
        with client.clustering_service(address, data_dir) as clustering:
            status = GetClusteringStatusRequest(experiment_id=experiment_id)
            clusters = clustering.GetClusteringStatus(status).summary
    Console().print(explanation(experiment_id, segmentation, check, metrics, clusters), highlight=False)


def _running(address: "AdminAddress", data_dir: "DataDirectory") -> list[str]:
    from samplit.admin.v1 import experiment_pb2
    from samplit.admin.v1.experiment_service_pb2 import ListExperimentsRequest

    from server.cli.client import experiment_service

    found: list[str] = []
    request = ListExperimentsRequest(state=experiment_pb2.EXPERIMENT_STATE_RUNNING, page_size=200)
    with experiment_service(address, data_dir) as service:
        while True:
            page = service.ListExperiments(request)
            found += [each.experiment_id for each in page.experiments]
            if not page.next_page_token:
                return found
            request.page_token = page.next_page_token
