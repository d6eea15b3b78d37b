"""`samplit results`: what an experiment has counted, for each segment and variant."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated

import typer

from server.cli.options import AdminAddress, DataDirectory

if TYPE_CHECKING:
    from rich.table import Table
    from samplit.admin.v1.experiment_service_pb2 import GetExperimentResultsResponse, SegmentResult, VariantResult


def show_results(
    experiment_id: Annotated[str, typer.Argument(metavar="EXPERIMENT", help="its id", show_default=False)],
    address: AdminAddress = None,
    data_dir: DataDirectory = None,
) -> None:
    """Show allocations and conversions for each segment and variant."""
    from rich.console import Console
    from samplit.admin.v1.experiment_service_pb2 import GetExperimentResultsRequest

    from server.cli.connection import experiment_service

    with experiment_service(address, data_dir) as service:
        answer = service.GetExperimentResults(GetExperimentResultsRequest(experiment_id=experiment_id))
    console = Console()
    console.print(results_table(answer))
    console.print(_published(answer), style="dim")


def results_table(answer: "GetExperimentResultsResponse") -> "Table":
    """A block for each segment, then one for all. A segment that still learns has "37 of 100" beside its name."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("Segment", overflow="fold")
    table.add_column("Variant", overflow="fold")
    for name in ("Allocations", "Conversions", "Rate"):
        table.add_column(name, justify="right", no_wrap=True)
    for segment in answer.segments:
        _add_block(table, segment_title(segment), segment.variants)
    if [segment.segment_key for segment in answer.segments] != ["global"]:
        _add_block(table, "All", answer.totals)
    return table


def segment_title(segment: "SegmentResult") -> str:
    """Its name, and how far it is where it does not decide by itself yet."""
    name = segment.segment_display_name or segment.segment_key
    if segment.allocations >= segment.min_samples:
        return name
    return f"{name} ({segment.allocations:,} of {segment.min_samples:,})"


def _add_block(table: "Table", title: str, variants: Iterable["VariantResult"]) -> None:
    from rich.text import Text

    for index, variant in enumerate(variants):
        table.add_row(
            Text(title if index == 0 else ""),
            Text(variant.name or variant.variant_id),
            f"{variant.allocations:,}",
            f"{variant.conversions:,}",
            f"{variant.rate:.1%}" if variant.HasField("rate") else "–",
        )
    table.add_section()


def _published(answer: "GetExperimentResultsResponse") -> str:
    from server.cli.views import format_time

    if not answer.HasField("published_at"):
        return "Nothing has been learned yet."
    return f"Learning step {answer.posterior_version:,}, published {format_time(answer.published_at)}."
