"""`samplit segmentation`, `segments` and `audience`: how users are divided, and who they are."""

import time
from typing import TYPE_CHECKING, Annotated

import typer

from server.cli.errors import CommandError
from server.cli.options import AdminAddress, DataDirectory

if TYPE_CHECKING:
    from samplit.admin.v1.segmentation_service_pb2 import Segmentation

app = typer.Typer(help="Show and change how an experiment is segmented.", no_args_is_help=True)
ExperimentId = Annotated[str, typer.Argument(metavar="EXPERIMENT", help="its id", show_default=False)]
_POLL_SECONDS = 0.2


@app.command()
def show(experiment_id: ExperimentId, address: AdminAddress = None, data_dir: DataDirectory = None) -> None:
    """Show what serves, and what is being prepared."""
    from rich.console import Console
    from samplit.admin.v1.segmentation_service_pb2 import GetSegmentationConfigRequest

    from server.cli.client import segmentation_service
    from server.cli.views.segments import segmentation_fields

    with segmentation_service(address, data_dir) as service:
        answer = service.GetSegmentationConfig(GetSegmentationConfigRequest(experiment_id=experiment_id))
    Console().print(segmentation_fields(answer.segmentation))


@app.command("set")
def change(
    experiment_id: ExperimentId,
    segment_by: Annotated[
        list[str] | None, typer.Option(help="a dimension: source, device, attributes.plan, …; repeat for more")
    ] = None,
    auto: Annotated[bool, typer.Option("--auto", help="clusters that are found: samplit clusters")] = False,
    off: Annotated[bool, typer.Option("--off", help="no segments")] = False,
    min_samples: Annotated[int | None, typer.Option(min=0, help="users before a segment decides by itself")] = None,
    max_segments: Annotated[int | None, typer.Option(min=1, help="the rest share one")] = None,
    auto_activation: Annotated[
        bool | None, typer.Option("--auto-activation/--no-auto-activation", help="turn it on and off by itself")
    ] = None,
    threshold: Annotated[int | None, typer.Option(min=1, help="visitors a day from which it may be turned on")] = None,
    auto_clustering: Annotated[
        bool | None, typer.Option("--auto-clustering/--no-auto-clustering", help="by clusters too")
    ] = None,
    wait: Annotated[bool, typer.Option(help="until it serves")] = True,
    address: AdminAddress = None,
    data_dir: DataDirectory = None,
) -> None:
    """Change it; a running experiment goes on meanwhile, and every user keeps the variant."""
    from google.protobuf.field_mask_pb2 import FieldMask
    from samplit.admin.v1 import experiment_pb2
    from samplit.admin.v1.segmentation_service_pb2 import (
        GetSegmentationConfigRequest,
        UpdateSegmentationConfigRequest,
    )

    from server.cli.client import segmentation_service

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
        raise CommandError("give one of --segment-by, --auto and --off, or another option")
    mode = "DISABLED" if off else "AUTO" if auto else "MANUAL"
    config = experiment_pb2.SegmentationConfig(
        mode=experiment_pb2.SegmentationMode.Value(f"SEGMENTATION_MODE_{mode}"),
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
    with segmentation_service(address, data_dir) as service:
        segmentation = service.UpdateSegmentationConfig(request).segmentation
        while wait and segmentation.HasField("pending") and not _waits_for_a_model(segmentation):
            time.sleep(_POLL_SECONDS)
            asked = GetSegmentationConfigRequest(experiment_id=experiment_id)
            segmentation = service.GetSegmentationConfig(asked).segmentation
    typer.echo(_summary(experiment_id, segmentation))


@app.command()
def metrics(experiment_id: ExperimentId, address: AdminAddress = None, data_dir: DataDirectory = None) -> None:
    """Show what segmenting has brought, beside what was expected."""
    from rich.console import Console
    from samplit.admin.v1.recommendation_service_pb2 import GetSegmentationMetricsRequest

    from server.cli.client import recommendation_service
    from server.cli.views.recommendations import metrics_fields

    with recommendation_service(address, data_dir) as service:
        answer = service.GetSegmentationMetrics(GetSegmentationMetricsRequest(experiment_id=experiment_id))
    Console().print(metrics_fields(answer))


def list_segments(
    experiment_id: ExperimentId,
    text: Annotated[str, typer.Option("--filter", help="only those whose key or name has this")] = "",
    address: AdminAddress = None,
    data_dir: DataDirectory = None,
) -> None:
    """List the segments of an experiment, the largest first."""
    from rich.console import Console
    from samplit.admin.v1.segmentation_service_pb2 import ListSegmentsRequest, Segment

    from server.cli.client import segmentation_service
    from server.cli.views.segments import segments_table

    request = ListSegmentsRequest(experiment_id=experiment_id, filter=text, page_size=200)
    segments: list[Segment] = []
    with segmentation_service(address, data_dir) as service:
        while True:
            page = service.ListSegments(request)
            segments += page.segments
            if not page.next_page_token:
                break
            request.page_token = page.next_page_token
    Console().print(segments_table(segments))


def show_audience(
    experiment_id: ExperimentId,
    by: Annotated[list[str], typer.Option(help="a dimension; repeat for a second", show_default=False)],
    limit: Annotated[int, typer.Option(min=1, help="so many groups, the largest")] = 20,
    address: AdminAddress = None,
    data_dir: DataDirectory = None,
) -> None:
    """Break an experiment's users down by one or two dimensions."""
    from rich.console import Console
    from samplit.admin.v1.segmentation_service_pb2 import GetAudienceBreakdownRequest

    from server.cli.client import segmentation_service
    from server.cli.views.segments import audience_table

    request = GetAudienceBreakdownRequest(experiment_id=experiment_id, dimensions=by, limit=limit)
    with segmentation_service(address, data_dir) as service:
        answer = service.GetAudienceBreakdown(request)
    console = Console()
    console.print(audience_table(by, answer))
    if answer.bot_requests:
        console.print(f"Bots asked {answer.bot_requests:,} times; they are in none of the groups.", highlight=False)


def _summary(experiment_id: str, segmentation: "Segmentation") -> str:
    if segmentation.HasField("pending"):
        if _waits_for_a_model(segmentation):
            return f"{experiment_id} waits for clusters: samplit clusters status {experiment_id}"
        return f"{experiment_id} is being prepared to be segmented anew"
    if segmentation.config.model_version:
        return f"{experiment_id} is segmented by clusters: samplit clusters show {experiment_id}"
    if not segmentation.config.segment_by:
        return f"{experiment_id} is not segmented"
    return f"{experiment_id} is segmented by {', '.join(segmentation.config.segment_by)}"


def _waits_for_a_model(segmentation: "Segmentation") -> bool:
    from samplit.admin.v1.experiment_pb2 import SEGMENTATION_MODE_AUTO

    pending = segmentation.pending
    return pending.mode == SEGMENTATION_MODE_AUTO and not pending.model_version
