"""`samplit clusters`: finds audiences by training a model, shows and names them, and goes back to earlier models."""

import time
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress
from samplit.admin.v1.clustering_service_pb2 import (
    ActivateClusterModelRequest,
    ClusteringJob,
    GetClusteringStatusRequest,
    ListClusterModelsRequest,
    RenameClusterRequest,
    TrainClusterModelRequest,
)
from samplit.admin.v1.clustering_service_pb2_grpc import ClusteringServiceStub

from server.cli.client import open_service
from server.cli.errors import CommandError
from server.cli.options import AdminAddress, DataDirectory, ExperimentId
from server.cli.paging import read_list
from server.cli.views.clusters import clusters_table, models_table, status_fields

app = typer.Typer(help="Find audiences, and see them.", no_args_is_help=True)
_POLL_SECONDS = 0.2


@app.command()
def train(
    experiment_id: ExperimentId,
    wait: Annotated[bool, typer.Option(help="wait until it is trained")] = True,
    address: AdminAddress = None,
    data_dir: DataDirectory = None,
) -> None:
    """Train a model. In mode AUTO it serves afterwards."""
    with open_service(ClusteringServiceStub, address, data_dir) as service:
        job = service.TrainClusterModel(TrainClusterModelRequest(experiment_id=experiment_id)).job
        if wait:
            job = _wait(service, experiment_id, job)
    if job.error:
        raise CommandError(f"no model was trained: {job.error}")
    if job.model_version:
        typer.echo(f"model {job.model_version} is trained")
    else:
        typer.echo(f"job {job.job_id} is under way: samplit clusters status {experiment_id}")


@app.command()
def status(experiment_id: ExperimentId, address: AdminAddress = None, data_dir: DataDirectory = None) -> None:
    """Show which model is trained and serves, and whether segmenting by it is worth it."""
    with open_service(ClusteringServiceStub, address, data_dir) as service:
        answer = service.GetClusteringStatus(GetClusteringStatusRequest(experiment_id=experiment_id))
    Console().print(status_fields(answer))


@app.command()
def show(
    experiment_id: ExperimentId,
    model: Annotated[int | None, typer.Option(min=1, help="version of the model; the newest if left out")] = None,
    address: AdminAddress = None,
    data_dir: DataDirectory = None,
) -> None:
    """Show the clusters of a model, and which models there are."""
    with open_service(ClusteringServiceStub, address, data_dir) as service:
        request = ListClusterModelsRequest(experiment_id=experiment_id)
        models = read_list(service.ListClusterModels, request, lambda page: page.models).items
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
    model: Annotated[int, typer.Argument(min=1, help="version of the model", show_default=False)],
    address: AdminAddress = None,
    data_dir: DataDirectory = None,
) -> None:
    """Segment by a model, such as an earlier one. The mode becomes AUTO."""
    with open_service(ClusteringServiceStub, address, data_dir) as service:
        service.ActivateClusterModel(ActivateClusterModelRequest(experiment_id=experiment_id, model_version=model))
    typer.echo(f"{experiment_id} moves to model {model}")


@app.command()
def rename(
    experiment_id: ExperimentId,
    segment_key: Annotated[str, typer.Argument(metavar="CLUSTER", help="such as cluster:3", show_default=False)],
    name: Annotated[
        str, typer.Argument(help="its new name; an empty one brings back the name that was found", show_default=False)
    ],
    address: AdminAddress = None,
    data_dir: DataDirectory = None,
) -> None:
    """Give a cluster a name, which later models keep."""
    request = RenameClusterRequest(experiment_id=experiment_id, segment_key=segment_key, name=name)
    with open_service(ClusteringServiceStub, address, data_dir) as service:
        cluster = service.RenameCluster(request).cluster
    typer.echo(f"{cluster.segment_key} is called {cluster.name!r}")


def _wait(service: ClusteringServiceStub, experiment_id: str, job: ClusteringJob) -> ClusteringJob:
    """Show a progress bar until the job ends, and return it then."""
    with Progress(transient=True) as progress:
        bar = progress.add_task("waiting for a worker", total=1.0)
        while not job.HasField("finished_at"):
            progress.update(bar, description=job.stage or "waiting for a worker", completed=job.progress)
            time.sleep(_POLL_SECONDS)
            job = service.GetClusteringStatus(GetClusteringStatusRequest(experiment_id=experiment_id)).job
    return job
