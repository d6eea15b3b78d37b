"""`samplit segmentation`, `segments` and `audience`: how users are divided, and who they are."""

import time
from typing import Annotated

import typer
from google.protobuf.field_mask_pb2 import FieldMask
from rich.console import Console
from samplit.admin.v1.experiment_pb2 import SEGMENTATION_MODE_AUTO, SegmentationConfig, SegmentationMode
from samplit.admin.v1.recommendation_service_pb2 import GetSegmentationMetricsRequest
from samplit.admin.v1.recommendation_service_pb2_grpc import RecommendationServiceStub
from samplit.admin.v1.segmentation_service_pb2 import (
    GetAudienceBreakdownRequest,
    GetSegmentationConfigRequest,
    ListSegmentsRequest,
    Segmentation,
    UpdateSegmentationConfigRequest,
)
from samplit.admin.v1.segmentation_service_pb2_grpc import SegmentationServiceStub

from server.cli.client import open_service
from server.cli.errors import CommandError
from server.cli.options import AdminAddress, DataDirectory, ExperimentId
from server.cli.paging import read_list
from server.cli.views.recommendations import metrics_fields
from server.cli.views.segments import audience_table, segmentation_fields, segments_table

app = typer.Typer(help="Show and change how an experiment is segmented.", no_args_is_help=True)
_POLL_SECONDS = 0.2


@app.command()
def show(experiment_id: ExperimentId, address: AdminAddress = None, data_dir: DataDirectory = None) -> None:
    """Show which segmentation serves, and which is being prepared."""
    with open_service(SegmentationServiceStub, address, data_dir) as service:
        answer = service.GetSegmentationConfig(GetSegmentationConfigRequest(experiment_id=experiment_id))
    Console().print(segmentation_fields(answer.segmentation))


@app.command("set")
def change(
    experiment_id: ExperimentId,
    segment_by: Annotated[
        list[str] | None, typer.Option(help="a dimension: source, device, attributes.plan, …; repeat for more")
    ] = None,
    auto: Annotated[bool, typer.Option("--auto", help="segment by clusters that are found: samplit clusters")] = False,
    off: Annotated[bool, typer.Option("--off", help="turn segmentation off")] = False,
    min_samples: Annotated[int | None, typer.Option(min=0, help="users before a segment decides by itself")] = None,
    max_segments: Annotated[
        int | None, typer.Option(min=1, help="at most so many segments; other users share one")
    ] = None,
    auto_activation: Annotated[
        bool | None,
        typer.Option("--auto-activation/--no-auto-activation", help="let Samplit turn segmentation on and off"),
    ] = None,
    threshold: Annotated[
        int | None, typer.Option(min=1, help="visitors a day from which Samplit may turn it on")
    ] = None,
    auto_clustering: Annotated[
        bool | None, typer.Option("--auto-clustering/--no-auto-clustering", help="let Samplit segment by clusters too")
    ] = None,
    wait: Annotated[bool, typer.Option(help="wait until it serves")] = True,
    address: AdminAddress = None,
    data_dir: DataDirectory = None,
) -> None:
    """Change the segmentation. A running experiment goes on meanwhile, and every user keeps the variant."""
    modes = bool(segment_by) + auto + off
    others = {
        "min_samples_per_segment": min_samples,
        "max_segments": max_segments,
        "auto_activation": auto_activation,
        "auto_activation_threshold": threshold,
        "auto_clustering_enabled": auto_clustering,
    }
    given = [name for name, value in others.items() if value is not None]
    if modes > 1 or not (modes or given):
        raise CommandError(
            "say what to change: one of --segment-by, --auto and --off, or another option (--help lists them)"
        )
    mode = "DISABLED" if off else "AUTO" if auto else "MANUAL"
    config = SegmentationConfig(
        mode=SegmentationMode.Value(f"SEGMENTATION_MODE_{mode}"),
        segment_by=segment_by or [],
        min_samples_per_segment=min_samples,
        max_segments=max_segments,
        auto_activation=bool(auto_activation),
        auto_activation_threshold=threshold,
        auto_clustering_enabled=bool(auto_clustering),
    )
    mask = FieldMask()
    if modes:
        mask.paths.extend(["mode", "segment_by"])
    mask.paths.extend(given)
    request = UpdateSegmentationConfigRequest(experiment_id=experiment_id, config=config, update_mask=mask)
    with open_service(SegmentationServiceStub, address, data_dir) as service:
        segmentation = service.UpdateSegmentationConfig(request).segmentation
        while wait and segmentation.HasField("pending") and not _waits_for_a_model(segmentation):
            time.sleep(_POLL_SECONDS)
            config_request = GetSegmentationConfigRequest(experiment_id=experiment_id)
            segmentation = service.GetSegmentationConfig(config_request).segmentation
    typer.echo(_summary(experiment_id, segmentation))


@app.command()
def metrics(experiment_id: ExperimentId, address: AdminAddress = None, data_dir: DataDirectory = None) -> None:
    """Show the lift that segmenting has brought, beside the lift that was expected."""
    with open_service(RecommendationServiceStub, address, data_dir) as service:
        answer = service.GetSegmentationMetrics(GetSegmentationMetricsRequest(experiment_id=experiment_id))
    Console().print(metrics_fields(answer))


def list_segments(
    experiment_id: ExperimentId,
    text: Annotated[str, typer.Option("--filter", help="only segments whose key or name contains this text")] = "",
    address: AdminAddress = None,
    data_dir: DataDirectory = None,
) -> None:
    """List the segments of an experiment, the largest first."""
    request = ListSegmentsRequest(experiment_id=experiment_id, filter=text)
    with open_service(SegmentationServiceStub, address, data_dir) as service:
        segments = read_list(service.ListSegments, request, lambda page: page.segments)
    Console().print(segments_table(segments.items))


def show_audience(
    experiment_id: ExperimentId,
    by: Annotated[list[str], typer.Option(help="a dimension; repeat for a second", show_default=False)],
    limit: Annotated[int, typer.Option(min=1, help="at most so many groups, the largest")] = 20,
    address: AdminAddress = None,
    data_dir: DataDirectory = None,
) -> None:
    """Break an experiment's users down by one or two dimensions."""
    request = GetAudienceBreakdownRequest(experiment_id=experiment_id, dimensions=by, limit=limit)
    with open_service(SegmentationServiceStub, address, data_dir) as service:
        answer = service.GetAudienceBreakdown(request)
    console = Console()
    console.print(audience_table(by, answer))
    if answer.bot_requests:
        console.print(f"Bots asked {answer.bot_requests:,} times; they are in none of the groups.", highlight=False)


def _summary(experiment_id: str, segmentation: Segmentation) -> str:
    if segmentation.HasField("pending"):
        if _waits_for_a_model(segmentation):
            return f"{experiment_id} waits for clusters: samplit clusters status {experiment_id}"
        return f"{experiment_id} is being segmented anew: samplit segmentation show {experiment_id}"
    if segmentation.config.model_version:
        return f"{experiment_id} is segmented by clusters: samplit clusters show {experiment_id}"
    if not segmentation.config.segment_by:
        return f"{experiment_id} is not segmented"
    return f"{experiment_id} is segmented by {', '.join(segmentation.config.segment_by)}"


def _waits_for_a_model(segmentation: Segmentation) -> bool:
    pending = segmentation.pending
    return pending.mode == SEGMENTATION_MODE_AUTO and not pending.model_version
