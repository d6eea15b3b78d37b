"""Converts segments and audience breakdowns to messages."""

from collections import defaultdict
from collections.abc import Callable

from samplit.admin.v1 import experiment_service_pb2
from samplit.admin.v1 import segmentation_service_pb2 as pb

from allocator import estimates
from allocator.estimates.proportion import wilson
from allocator.experiment import Experiment
from allocator.posterior.tables import PosteriorTables
from allocator.segments import GLOBAL_NUMBER, display_name
from storage.postgres.counts.audience import Group
from storage.postgres.counts.counts import SegmentCount

_LEVEL = 0.9
_ORDERS: dict[pb.SegmentOrder.ValueType, Callable[[pb.Segment], tuple[float | str, ...]]] = {
    pb.SEGMENT_ORDER_UNSPECIFIED: lambda s: (-s.allocations, s.segment_key),
    pb.SEGMENT_ORDER_ALLOCATIONS: lambda s: (-s.allocations, s.segment_key),
    pb.SEGMENT_ORDER_CONVERSIONS: lambda s: (-s.conversions, s.segment_key),
    pb.SEGMENT_ORDER_RATE: lambda s: (-s.rate.value if s.HasField("rate") else 1.0, s.segment_key),
    pb.SEGMENT_ORDER_KEY: lambda s: (s.segment_key,),
}


def segment_messages(
    experiment: Experiment,
    rows: list[SegmentCount],
    tables: PosteriorTables,
    order: pb.SegmentOrder.ValueType,
    text: str,
) -> list[pb.Segment]:
    """Return the segments that have `text` in their key or name, in the wanted order."""
    cells: dict[int, list[SegmentCount]] = defaultdict(list)
    for row in rows:
        cells[row.segment].append(row)
    total = sum(row.allocations for row in rows)
    sought = text.lower()
    found = []
    for number, own in cells.items():
        segment = _segment(experiment, own, tables, number, total)
        if sought in segment.segment_key or sought in segment.segment_display_name.lower():
            found.append(segment)
    return sorted(found, key=_ORDERS[order])


def group_message(group: Group) -> pb.AudienceGroup:
    """Return one group of a breakdown as a message."""
    message = pb.AudienceGroup(
        values=group.values, allocations=group.allocations, conversions=group.conversions, trials=group.trials
    )
    _set_rate(message.rate, group.successes, group.trials)
    return message


def _segment(
    experiment: Experiment, cells: list[SegmentCount], tables: PosteriorTables, number: int, total: int
) -> pb.Segment:
    allocations, trials = sum(cell.allocations for cell in cells), sum(cell.trials for cell in cells)
    segment = pb.Segment(
        segment_key=cells[0].segment_key,
        segment_display_name=display_name(cells[0].segment_key, experiment.cluster_names),
        allocations=allocations,
        conversions=sum(cell.conversions for cell in cells),
        trials=trials,
        traffic_share=allocations / total if total else 0.0,
        min_samples=0 if number == GLOBAL_NUMBER else experiment.segmentation.min_samples_per_segment,
    )
    _set_rate(segment.rate, sum(cell.successes for cell in cells), trials)
    row = tables.rows.get(number)
    if row is not None:
        best = estimates.chances(tables.alpha[row], tables.beta[row]).best
        leading = tables.variants[int(best.argmax())]
        segment.leading_variant_id = next(v.variant_id for v in experiment.variants if v.number == leading)
        segment.leading_probability = float(best.max())
    return segment


def _set_rate(rate: experiment_service_pb2.Estimate, successes: int, trials: int) -> None:
    if trials:
        rate.value = successes / trials
        rate.lower, rate.upper = wilson(successes, trials, _LEVEL)
