"""`samplit clusters`: train, look at, name and go back to audiences that were found."""

import time
from typing import TYPE_CHECKING, Annotated

import typer

from server.cli.errors import CommandError
from server.cli.options import AdminAddress, DataDirectory

if TYPE_CHECKING:
    from samplit.admin.v1.clustering_service_pb2 import ClusteringJob
    from samplit.admin.v1.clustering_service_pb2_grpc import ClusteringServiceStub

app = typer.Typer(help="Find audiences, and see them.", no_args_is_help=True)
ExperimentId = Annotated[str, typer.Argument(metavar="EXPERIMENT", help="its id", show_default=False)]
_POLL_SECONDS = 0.2


@app.command()
def train(
    experiment_id: ExperimentId,
    wait: Annotated[bool, typer.Option(help="until it is done")] = True,
    address: AdminAddress = None,
    data_dir: DataDirectory = None,
) -> None:
    """Train a model; in mode AUTO it serves afterwards."""
    from samplit.admin.v1.clustering_service_pb2 import TrainClusterModelRequest

    from server.cli.client import clustering_service

    with clustering_service(address, data_dir) as service:
        job = service.TrainClusterModel(TrainClusterModelRequest(experiment_id=experiment_id)).job
        if wait:
            job = _wait(service, experiment_id, job)
    if job.error:
        raise CommandError(f"no model was made: {job.error}")
    typer.echo(f"model {job.model_version} is trained" if job.model_version else f"job {job.job_id} is under way")


@app.command()
def status(experiment_id: ExperimentId, address: AdminAddress = None, data_dir: DataDirectory = None) -> None:
    """Say what is trained, what serves, and whether it is worth it."""
    from rich.console import Console
    from samplit.admin.v1.clustering_service_pb2 import GetClusteringStatusRequest

    from server.cli.client import clustering_service
    from server.cli.views.clusters import status_fields

    with clustering_service(address, data_dir) as service:
        answer = service.GetClusteringStatus(GetClusteringStatusRequest(experiment_id=experiment_id))
    Console().print(status_fields(answer))


@app.command()
def show(
    experiment_id: ExperimentId,
    model: Annotated[int | None, typer.Option(min=1, help="a version; the newest if left out")] = None,
    address: AdminAddress = None,
    data_dir: DataDirectory = None,
) -> None:
    """Show the clusters of a model, and which models there are."""
    from rich.console import Console
    from samplit.admin.v1.clustering_service_pb2 import ListClusterModelsRequest

    from server.cli.client import clustering_service
    from server.cli.views.clusters import clusters_table, models_table

    with clustering_service(address, data_dir) as service:
        request = ListClusterModelsRequest(experiment_id=experiment_id, page_size=200)
        models = service.ListClusterModels(request).models
    shown = next((each for each in models if model in (None, each.model_version)), None)
    if shown is None:
        what = "no cluster model" if model is None else f"no cluster model {model}"
        raise CommandError(
            f"experiment {experiment_id!r} has {what}: `samplit clusters train {experiment_id}` makes one"
        )
    console = Console()
    console.print(clusters_table(shown))
    if len(models) > 1:
        console.print(models_table(models))


@app.command()
def activate(
    experiment_id: ExperimentId,
    model: Annotated[int, typer.Argument(min=1, help="a version", show_default=False)],
    address: AdminAddress = None,
    data_dir: DataDirectory = None,
) -> None:
    """Move to a model, such as an earlier one, and to mode AUTO."""
    from samplit.admin.v1.clustering_service_pb2 import ActivateClusterModelRequest

    from server.cli.client import clustering_service

    with clustering_service(address, data_dir) as service:
        service.ActivateClusterModel(ActivateClusterModelRequest(experiment_id=experiment_id, model_version=model))
    typer.echo(f"{experiment_id} moves to model {model}")


@app.command()
def rename(
    experiment_id: ExperimentId,
    segment_key: Annotated[str, typer.Argument(metavar="CLUSTER", help="such as cluster:3", show_default=False)],
    name: Annotated[str, typer.Argument(help="empty takes the given name back", show_default=False)],
    address: AdminAddress = None,
    data_dir: DataDirectory = None,
) -> None:
    """Give a cluster a name, which stays."""
    from samplit.admin.v1.clustering_service_pb2 import RenameClusterRequest

    from server.cli.client import clustering_service

    request = RenameClusterRequest(experiment_id=experiment_id, segment_key=segment_key, name=name)
    with clustering_service(address, data_dir) as service:
        cluster = service.RenameCluster(request).cluster
    typer.echo(f"{cluster.segment_key} is called {cluster.name!r}")


def _wait(service: "ClusteringServiceStub", experiment_id: str, job: "ClusteringJob") -> "ClusteringJob":
    """The job once it ended, with a progress bar meanwhile."""
    from rich.progress import Progress
    from samplit.admin.v1.clustering_service_pb2 import GetClusteringStatusRequest

    with Progress(transient=True) as progress:
        bar = progress.add_task("waiting for a worker", total=1.0)
        while not job.HasField("finished_at"):
            progress.update(bar, description=job.stage or "waiting for a worker", completed=job.progress)
            time.sleep(_POLL_SECONDS)
            job = service.GetClusteringStatus(GetClusteringStatusRequest(experiment_id=experiment_id)).job
    return job
