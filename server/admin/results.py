"""Results: what was counted for each segment and variant."""

from collections import defaultdict
from collections.abc import Iterable

import asyncpg
from samplit.admin.v1 import experiment_service_pb2 as pb

from allocator.errors import ExperimentNotFoundError
from allocator.experiment import Experiment
from allocator.segments import GLOBAL_NUMBER, display_name
from server.admin.messages import timestamp
from server.catalog import Catalog
from storage.postgres import counts, experiments, posteriors
from storage.postgres.counts import SegmentCount


async def experiment_results(
    pool: asyncpg.Pool, catalog: Catalog, experiment_id: str
) -> pb.GetExperimentResultsResponse:
    """Counts as recorded so far, and the posterior version that serves here. Raises ExperimentNotFoundError."""
    async with pool.acquire() as connection, connection.transaction(isolation="repeatable_read", readonly=True):
        experiment = await experiments.get(connection, experiment_id)
        if experiment is None:
            raise ExperimentNotFoundError(experiment_id)
        rows = await counts.segment_counts(connection, experiment.number, experiment.segmentation_version)
        posterior = await posteriors.load(connection, experiment.number)
    serving = (await catalog.get(experiment_id)).tables.version
    return pb.GetExperimentResultsResponse(
        segments=sorted(_segments(experiment, rows), key=lambda s: (-s.allocations, s.segment_key)),
        totals=_variants(experiment, rows),
        posterior_version=serving,
        published_at=timestamp(posterior.published_at) if posterior and serving else None,
    )


def _segments(experiment: Experiment, rows: list[SegmentCount]) -> list[pb.SegmentResult]:
    by_segment: dict[int, list[SegmentCount]] = defaultdict(list)
    for row in rows:
        by_segment[row.segment].append(row)
    return [
        pb.SegmentResult(
            segment_key=cells[0].segment_key,
            segment_display_name=display_name(cells[0].segment_key),
            allocations=sum(cell.allocations for cell in cells),
            min_samples=0 if segment == GLOBAL_NUMBER else experiment.segmentation.min_samples_per_segment,
            variants=_variants(experiment, cells),
        )
        for segment, cells in by_segment.items()
    ]


def _variants(experiment: Experiment, rows: Iterable[SegmentCount]) -> list[pb.VariantResult]:
    allocations: dict[int, int] = defaultdict(int)
    conversions: dict[int, int] = defaultdict(int)
    for row in rows:
        allocations[row.variant] += row.allocations
        conversions[row.variant] += row.conversions
    return [
        pb.VariantResult(
            variant_id=variant.variant_id,
            name=variant.name,
            allocations=allocations[variant.number],
            conversions=conversions[variant.number],
            rate=conversions[variant.number] / allocations[variant.number] if allocations[variant.number] else None,
        )
        for variant in experiment.variants
    ]
