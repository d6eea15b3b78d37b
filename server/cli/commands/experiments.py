"""`samplit experiments`: creates, lists, shows, starts, pauses and completes them."""

from enum import Enum
from typing import Annotated

import typer
from google.protobuf import json_format
from google.protobuf.duration_pb2 import Duration
from google.protobuf.struct_pb2 import Struct
from rich.console import Console
from samplit.admin.v1.experiment_pb2 import (
    Experiment,
    ExperimentState,
    OutagePolicy,
    SegmentationConfig,
    SegmentationMode,
    Variant,
)
from samplit.admin.v1.experiment_service_pb2 import (
    CompleteExperimentRequest,
    CreateExperimentRequest,
    GetExperimentRequest,
    ListExperimentsRequest,
    PauseExperimentRequest,
    StartExperimentRequest,
)
from samplit.admin.v1.experiment_service_pb2_grpc import ExperimentServiceStub

from server.cli.client import open_service
from server.cli.durations import parse_seconds
from server.cli.errors import CommandError
from server.cli.options import AdminAddress, DataDirectory, ExperimentId
from server.cli.paging import read_list
from server.cli.views.experiments import experiment_fields, experiments_table, variants_table

app = typer.Typer(help="Create experiments and change their state.", no_args_is_help=True)


class State(Enum):
    """As in samplit.admin.v1.ExperimentState."""

    DRAFT = "draft"
    RUNNING = "running"
    PAUSED = "paused"
    COMPLETED = "completed"


class OutageOption(Enum):
    """As in samplit.admin.v1.OutagePolicy."""

    CONTROL = "control"
    UNAVAILABLE = "unavailable"


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="its name, as people see it", show_default=False)],
    variant: Annotated[
        list[str],
        typer.Option(help="""NAME or NAME=JSON, two or more: 'Control={"text": "Buy"}'""", show_default=False),
    ],
    experiment_id: Annotated[str, typer.Option("--id", help="derived from NAME if left out")] = "",
    control: Annotated[str, typer.Option(help='id of the control variant; "control", else the first')] = "",
    segment_by: Annotated[
        list[str] | None, typer.Option(help="a dimension: source, device, attributes.plan, …; repeat for more")
    ] = None,
    auto: Annotated[
        bool, typer.Option("--auto", help="segment by clusters, which are found once there are 1,000 users")
    ] = False,
    min_samples: Annotated[int | None, typer.Option(min=0, help="users before a segment decides by itself")] = None,
    holdout_share: Annotated[
        float | None, typer.Option(min=0, max=0.5, help="share of users who always get control")
    ] = None,
    baseline_share: Annotated[
        float | None, typer.Option(min=0, max=0.5, help="share of users who are served unsegmented")
    ] = None,
    description: str = "",
    owner: str = "",
    time_zone: Annotated[str, typer.Option(help="IANA name of the time zone of the experiment's days")] = "",
    metric: Annotated[str, typer.Option(help="name of the primary metric")] = "",
    maturity: Annotated[
        str, typer.Option(help='how long conversions take: 30m, 12h, 7d, or "auto" to find it out; 0 is no limit')
    ] = "0",
    on_outage: Annotated[
        OutageOption, typer.Option(help="what new users get while Redis is away: control, or an error")
    ] = OutageOption.CONTROL,
    start: Annotated[bool, typer.Option("--start", help="start it at once")] = False,
    address: AdminAddress = None,
    data_dir: DataDirectory = None,
) -> None:
    """Create an experiment."""
    if auto and segment_by:
        raise CommandError("give --segment-by or --auto, not both")
    mode = "AUTO" if auto else "MANUAL" if segment_by else "DISABLED"
    experiment = Experiment(
        experiment_id=experiment_id,
        name=name,
        description=description,
        owner=owner,
        variants=[parse_variant(text) for text in variant],
        control_variant_id=control,
        primary_metric=metric,
        segmentation=SegmentationConfig(
            mode=SegmentationMode.Value(f"SEGMENTATION_MODE_{mode}"),
            segment_by=segment_by or [],
            min_samples_per_segment=min_samples,
        ),
        holdout_share=holdout_share,
        baseline_share=baseline_share,
        time_zone=time_zone,
        maturity=Duration(seconds=0 if maturity == "auto" else parse_seconds(maturity)),
        auto_maturity=maturity == "auto",
        on_outage=OutagePolicy.Value(f"OUTAGE_POLICY_{on_outage.name}"),
    )
    with open_service(ExperimentServiceStub, address, data_dir) as service:
        created = service.CreateExperiment(CreateExperimentRequest(experiment=experiment))
        experiment_id = created.experiment.experiment_id
        if start:
            service.StartExperiment(StartExperimentRequest(experiment_id=experiment_id))
    typer.echo(f"{experiment_id} is {'RUNNING' if start else 'DRAFT'}")


@app.command("list")
def list_experiments(
    state: Annotated[State | None, typer.Option(help="only experiments in this state")] = None,
    address: AdminAddress = None,
    data_dir: DataDirectory = None,
) -> None:
    """List all experiments, newest first."""
    request = ListExperimentsRequest()
    if state is not None:
        request.state = ExperimentState.Value(f"EXPERIMENT_STATE_{state.name}")
    with open_service(ExperimentServiceStub, address, data_dir) as service:
        experiments = read_list(service.ListExperiments, request, lambda page: page.experiments)
    Console().print(experiments_table(experiments.items))


@app.command()
def show(experiment_id: ExperimentId, address: AdminAddress = None, data_dir: DataDirectory = None) -> None:
    """Show an experiment with its variants."""
    with open_service(ExperimentServiceStub, address, data_dir) as service:
        experiment = service.GetExperiment(GetExperimentRequest(experiment_id=experiment_id)).experiment
    Console().print(experiment_fields(experiment), variants_table(experiment))


@app.command()
def start(experiment_id: ExperimentId, address: AdminAddress = None, data_dir: DataDirectory = None) -> None:
    """Start or resume an experiment: from DRAFT or PAUSED to RUNNING."""
    with open_service(ExperimentServiceStub, address, data_dir) as service:
        service.StartExperiment(StartExperimentRequest(experiment_id=experiment_id))
    typer.echo(f"{experiment_id} is RUNNING")


@app.command()
def pause(experiment_id: ExperimentId, address: AdminAddress = None, data_dir: DataDirectory = None) -> None:
    """Pause an experiment: users keep their variant, new users get control."""
    with open_service(ExperimentServiceStub, address, data_dir) as service:
        service.PauseExperiment(PauseExperimentRequest(experiment_id=experiment_id))
    typer.echo(f"{experiment_id} is PAUSED")


@app.command()
def complete(
    experiment_id: ExperimentId,
    winner: Annotated[str, typer.Option(help="id of the variant that everyone gets", show_default=False)],
    address: AdminAddress = None,
    data_dir: DataDirectory = None,
) -> None:
    """Complete an experiment: everyone gets the winner."""
    request = CompleteExperimentRequest(experiment_id=experiment_id, winner_variant_id=winner)
    with open_service(ExperimentServiceStub, address, data_dir) as service:
        service.CompleteExperiment(request)
    typer.echo(f"{experiment_id} is COMPLETED; everyone gets {winner}")


def parse_variant(text: str) -> Variant:
    """Return the variant of NAME or NAME=JSON. Raises CommandError where the JSON is not an object."""
    name, equals, content = text.partition("=")
    if not equals:
        return Variant(name=name.strip())
    try:
        return Variant(name=name.strip(), content=json_format.Parse(content, Struct()))
    except json_format.ParseError:
        raise CommandError(
            f'the content of variant {name.strip()!r} is no JSON object: {content}; give one such as {{"text": "Buy"}}'
        ) from None
