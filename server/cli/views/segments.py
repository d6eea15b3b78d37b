"""Segments and audiences as tables. Texts of users are never taken as markup."""

from collections.abc import Sequence

from rich import box
from rich.table import Table
from samplit.admin.v1.experiment_pb2 import SegmentationMode
from samplit.admin.v1.segmentation_service_pb2 import (
    AudienceGroup,
    GetAudienceBreakdownResponse,
    Segment,
    Segmentation,
)

from server.cli.views.formats import fields_table, format_time, plain

_LEAST_WIDTH = 20


def segmentation_fields(segmentation: Segmentation) -> Table:
    """Show a row for each field of the segmentation that serves, and what is being prepared."""
    config, pending = segmentation.config, segmentation.pending
    fields = {
        "mode": _mode(config.mode),
        "segment by": ", ".join(config.segment_by),
        "min samples per segment": f"{config.min_samples_per_segment:,}",
        "max segments": f"{config.max_segments:,}",
        "version": str(segmentation.segmentation_version),
    }
    if segmentation.HasField("pending"):
        fields["being prepared"] = ", ".join(pending.segment_by) or _mode(pending.mode)
        fields["since"] = format_time(pending.requested_at)
    return fields_table(fields)


def segments_table(segments: Sequence[Segment]) -> Table:
    """Show a row for each segment: how large it is, how often it converts, and which variant leads."""
    table = _table("Segment", "Users", "Share", "Rate, 90 % interval", "Leads")
    for segment in segments:
        table.add_row(
            plain(segment.segment_display_name),
            f"{segment.allocations:,}",
            f"{segment.traffic_share:.1%}",
            _rate(segment),
            plain(f"{segment.leading_variant_id} ({segment.leading_probability:.0%})")
            if segment.leading_variant_id
            else "–",
        )
    return table


def audience_table(dimensions: Sequence[str], answer: GetAudienceBreakdownResponse) -> Table:
    """Show a row for each group of users, the largest first, and one for all others."""
    table = _table(", ".join(dimensions), "Users", "Converted", "Rate, 90 % interval")
    rest = [answer.rest] if answer.HasField("rest") else []
    for group in [*answer.groups, *rest]:
        name = " · ".join(group.values) or "all others"
        table.add_row(plain(name), f"{group.allocations:,}", f"{group.conversions:,}", _rate(group))
    return table


def _table(first: str, *numbers: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column(plain(first), overflow="fold", min_width=_LEAST_WIDTH)
    for name in numbers:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _rate(row: Segment | AudienceGroup) -> str:
    if not row.HasField("rate"):
        return "–"
    return f"{row.rate.value:.1%} [{row.rate.lower:.1%}, {row.rate.upper:.1%}]"


def _mode(mode: SegmentationMode.ValueType) -> str:
    return SegmentationMode.Name(mode).removeprefix("SEGMENTATION_MODE_")
