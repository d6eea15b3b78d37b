"""Recommendations, checks and measured lift as text. Texts of users are never taken as markup."""

from collections.abc import Sequence

from google.protobuf.timestamp_pb2 import Timestamp
from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from samplit.admin.v1.experiment_pb2 import SegmentationMode
from samplit.admin.v1.experiment_service_pb2 import Estimate
from samplit.admin.v1.recommendation_service_pb2 import (
    CheckEligibilityResponse,
    Freshness,
    GetSegmentationMetricsResponse,
    Recommendation,
    RecommendationState,
    SegmentMetrics,
)
from samplit.admin.v1.segmentation_service_pb2 import Segmentation

from allocator.wording import count_text, evidence_text, lift_text
from server.cli.views.formats import fields_table, format_time, plain

VANISHED_FROM = 500.0  # a copy of allocator.segmentation.VANISHED_BOUND, which would import all the statistics
_MOST_DIMENSIONS = 8


def check_lines(experiment_id: str, check: CheckEligibilityResponse) -> RenderableType:
    """Show what a check found, what it recommends, and what it did."""
    parts: list[RenderableType] = [plain(f"{experiment_id}: {check.summary}", style="bold"), _conditions(check)]
    parts += [plain(f"recommended: {_recommended(each)}") for each in check.recommendations]
    if check.action:
        parts.append(plain(f"done: {check.action}", style="bold"))
    return Group(*parts)


def recommendations_table(recommendations: Sequence[Recommendation]) -> Table:
    """Show a row for each recommendation."""
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("Id", no_wrap=True)
    for name in ("Experiment", "What", "Expected lift", "Evidence", "State"):
        table.add_column(name)
    for each in recommendations:
        state = RecommendationState.Name(each.state).removeprefix("RECOMMENDATION_STATE_")
        table.add_row(
            each.recommendation_id,
            plain(each.experiment_id),
            plain(each.summary),
            _lift(each.expected_lift) if each.HasField("expected_lift") else "–",
            _evidence(each) or "–",
            f"{state} by {each.decided_by}" if each.decided_by else state,
        )
    return table


def explanation(
    experiment_id: str,
    segmentation: Segmentation,
    check: CheckEligibilityResponse,
    metrics: GetSegmentationMetricsResponse | None,
    clusters: str | None,
) -> RenderableType:
    """Show on one page why an experiment is or is not segmented, and what would change that.

    metrics: what segmenting has brought; None while the experiment is not segmented.
    clusters: the summary of its clustering; None if it is not segmented by clusters.
    """
    config = segmentation.config
    mode = SegmentationMode.Name(config.mode).removeprefix("SEGMENTATION_MODE_")
    by = f", by {', '.join(config.segment_by)}" if config.segment_by else ""
    auto = "on" if config.auto_activation else "off: it changes when people change it, or accept a recommendation"
    parts: list[RenderableType] = [
        plain(f"{experiment_id}: segmentation {mode}{by}", style="bold"),
        plain(f"auto-activation is {auto}"),
    ]
    if segmentation.HasField("pending"):
        pending = segmentation.pending
        what = SegmentationMode.Name(pending.mode).removeprefix("SEGMENTATION_MODE_")
        parts.append(plain(f"segmentation {what} is being prepared since {format_time(pending.requested_at)}"))
    if clusters:
        parts.append(plain(f"clusters: {clusters}"))
    if metrics is not None:
        parts += ["", plain("What it has brought", style="bold"), metrics_fields(metrics)]
    parts += ["", plain("What it takes to be segmented", style="bold"), _conditions(check)]
    if check.dimensions:
        parts.append(_dimensions(check))
    parts += [plain(f"recommended: {_recommended(each)}") for each in check.recommendations]
    parts += ["", plain("How fresh everything is", style="bold"), _freshness(check.freshness)]
    return Group(*parts)


def metrics_fields(metrics: GetSegmentationMetricsResponse) -> Table:
    """Show the measured lift of segmenting beside the expected one."""
    fields = {"segments": f"{metrics.segments_count}"}
    if metrics.HasField("serves_since"):
        fields["serves since"] = format_time(metrics.serves_since)
    if metrics.HasField("expected_lift"):
        fields["expected lift"] = _lift(metrics.expected_lift)
    fields["measured lift"] = _lift(metrics.avg_lift) if metrics.HasField("avg_lift") else "not enough data"
    fields["basis"] = metrics.basis
    if metrics.HasField("best_segment"):
        fields["best segment"] = _segment(metrics.best_segment)
        fields["worst segment"] = _segment(metrics.worst_segment)
    if metrics.HasField("vanished"):
        evidence = evidence_text(metrics.vanished, VANISHED_FROM)
        fields["evidence that the lift vanished"] = f"{evidence}; with enough, turning off is recommended"
    return fields_table(fields)


def _lift(lift: Estimate) -> str:
    return lift_text(lift.value, lift.lower, lift.upper)


def _segment(segment: SegmentMetrics) -> str:
    return f"{segment.segment_display_name}: {_lift(segment.lift)}, rate {segment.rate:.2%}"


def _conditions(check: CheckEligibilityResponse) -> Table:
    table = Table(box=None, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for each in check.conditions:
        table.add_row("yes" if each.holds else "NO", each.name, plain(each.detail))
    return table


def _dimensions(check: CheckEligibilityResponse) -> Table:
    table = Table("Dimension", "Known", "Segments", "Evidence", "", box=box.SIMPLE_HEAD)
    for each in check.dimensions[:_MOST_DIMENSIONS]:
        evidence = evidence_text(each.e_value, each.e_value_needed) if each.HasField("e_value") else "–"
        table.add_row(
            plain(each.dimension), f"{each.coverage:.0%}", str(each.segments), evidence, plain(each.problem or "good")
        )
    return table


def _recommended(each: Recommendation) -> str:
    lift = f"; expected lift {_lift(each.expected_lift)}" if each.HasField("expected_lift") else ""
    evidence = f"; evidence {_evidence(each)}" if _evidence(each) else ""
    return f"{each.summary}{lift}{evidence}; {each.trials:,} users of {count_text(each.days, 'day')}"


def _evidence(each: Recommendation) -> str:
    return evidence_text(each.e_value, each.e_value_needed) if each.HasField("e_value") else ""


def _freshness(freshness: Freshness) -> Table:
    def at(stamp: Timestamp, is_set: bool) -> str:
        return format_time(stamp) if is_set else "never"

    lag = "Redis does not answer"
    if freshness.HasField("drain_lag_seconds"):
        lag = f"{freshness.drain_lag_seconds:,.0f} s behind" if freshness.drain_lag_seconds else "all events are stored"
    return fields_table(
        {
            "last assignment": at(freshness.last_assignment_at, freshness.HasField("last_assignment_at")),
            "last conversion": at(freshness.last_conversion_at, freshness.HasField("last_conversion_at")),
            "posteriors": at(freshness.posterior_published_at, freshness.HasField("posterior_published_at")),
            "cluster model": at(freshness.model_trained_at, freshness.HasField("model_trained_at")),
            "last check": at(freshness.checked_at, freshness.HasField("checked_at")),
            "drain": lag,
        }
    )
