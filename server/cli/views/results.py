"""Results of an experiment as tables and sentences. Texts of users are never taken as markup."""

from collections.abc import Iterable
from typing import Literal

from rich import box
from rich.table import Table
from samplit.admin.v1.experiment_service_pb2 import (
    Estimate,
    GetExperimentResultsResponse,
    SegmentResult,
    VariantResult,
)

from server.cli.views.formats import format_time, plain

_DISTRUST = 0.001  # the p-value of the sample-ratio check below which something is broken


def results_table(answer: GetExperimentResultsResponse) -> Table:
    """Show a block for each segment, then one for all users.

    A segment with too few users to decide by itself has "37 of 100" beside its name.
    """
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("Segment", overflow="fold")
    table.add_column("Variant", overflow="fold")
    for name in ("Allocations", "Conversions", "Rate"):
        table.add_column(name, justify="right", no_wrap=True)
    for segment in answer.segments:
        _add_block(table, _segment_title(segment), segment.variants)
    if [segment.segment_key for segment in answer.segments] != ["global"]:
        _add_block(table, "All", answer.totals)
    return table


def estimates_table(answer: GetExperimentResultsResponse) -> Table:
    """Show for each variant its rate over all users, without the bias of adaptive draws, and its chance to be best."""
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("All users", overflow="fold")
    for name in ("Rate, 90 % interval", "Over control, points", "Best"):
        table.add_column(name, justify="right", no_wrap=True)
    for variant in answer.totals:
        table.add_row(
            plain(variant.name or variant.variant_id),
            plain(_percent(variant.estimated_rate) if variant.HasField("estimated_rate") else "not enough data"),
            plain(_points(variant.difference) if variant.HasField("difference") else "–"),
            f"{variant.probability_best:.0%}" if variant.HasField("probability_best") else "–",
        )
    return table


def conclusions(answer: GetExperimentResultsResponse) -> list[str]:
    """Say what the experiment brought, a sentence each, or that there are not enough data."""
    lines = [_lift("Adaptive over control for everyone", answer, "adaptive_lift")]
    if any(segment.segment_key != "global" for segment in answer.segments):
        lines.append(_lift("Segmented over unsegmented", answer, "segmentation_lift"))
    if answer.bot_requests:
        lines.append(f"Bots asked {answer.bot_requests:,} times; they are in none of the counts.")
    if answer.HasField("sample_ratio_p_value") and answer.sample_ratio_p_value < _DISTRUST:
        lines.append(
            f"Variants were not drawn as often as they should have been (p = {answer.sample_ratio_p_value:.1g}): "
            "do not trust these results, and look for a defect in how users are allocated."
        )
    return lines


def published_text(answer: GetExperimentResultsResponse) -> str:
    """Say which posterior serves, and since when."""
    if not answer.HasField("published_at"):
        return "Nothing has been learned yet."
    return f"Posterior version {answer.posterior_version:,}, published {format_time(answer.published_at)}."


def _segment_title(segment: SegmentResult) -> str:
    name = segment.segment_display_name or segment.segment_key
    if segment.trials >= segment.min_samples:
        return name
    return f"{name} ({segment.trials:,} of {segment.min_samples:,})"


def _lift(name: str, answer: GetExperimentResultsResponse, field: Literal["adaptive_lift", "segmentation_lift"]) -> str:
    if not answer.HasField(field):
        return f"{name}: not enough data"
    return f"{name}: {_points(getattr(answer, field))} points, 90 % interval"


def _percent(estimate: Estimate) -> str:
    return f"{estimate.value:.1%} [{estimate.lower:.1%}, {estimate.upper:.1%}]"


def _points(estimate: Estimate) -> str:
    return f"{100 * estimate.value:+.1f} [{100 * estimate.lower:+.1f}, {100 * estimate.upper:+.1f}]"


def _add_block(table: Table, title: str, variants: Iterable[VariantResult]) -> None:
    for index, variant in enumerate(variants):
        table.add_row(
            plain(title if index == 0 else ""),
            plain(variant.name or variant.variant_id),
            f"{variant.allocations:,}",
            f"{variant.conversions:,}",
            f"{variant.rate:.1%}" if variant.HasField("rate") else "–",
        )
    table.add_section()
