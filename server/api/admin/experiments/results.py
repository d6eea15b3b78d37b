"""Results: the counts of each segment and variant, and the estimates that follow from the log."""

import asyncio
from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime

from samplit.admin.v1 import experiment_service_pb2 as pb

from allocator import estimates
from allocator.experiment import Experiment, Variant
from allocator.posterior.tables import PosteriorTables
from allocator.segments import GLOBAL_NUMBER, display_name
from server.allocation.catalog import Catalog
from server.api.admin.messages import set_estimate, timestamp
from server.api.admin.reads import read_experiment
from storage.postgres.counts import counts, traffic
from storage.postgres.counts.counts import SegmentCount
from storage.postgres.events.summed_log import SummedLog, summed_log
from storage.postgres.experiments import posteriors
from storage.postgres.pool import Pool, snapshot


async def experiment_results(
    pool: Pool, catalog: Catalog, request: pb.GetExperimentResultsRequest, now: datetime
) -> pb.GetExperimentResultsResponse:
    """Return the counts, the serving posterior version, and the estimates unless only counts are asked for.

    Raises InvalidFieldError, ExperimentNotFoundError.
    """
    full = request.view != pb.RESULTS_VIEW_COUNTS
    async with pool.acquire() as connection, snapshot(connection):
        experiment = await read_experiment(connection, request.experiment_id)
        version, control = experiment.segmentation_version, experiment.control.number
        rows = await counts.segment_counts(connection, experiment.number, version, now)
        posterior = await posteriors.load(connection, experiment.number)
        bots = await traffic.bot_requests(connection, experiment.number)
        log = await summed_log(connection, experiment.number, version, control, now) if full else None
    tables = (await catalog.get(experiment.experiment_id)).tables
    response = pb.GetExperimentResultsResponse(
        segments=sorted(_segments(experiment, rows), key=lambda s: (-s.allocations, s.segment_key)),
        totals=_variants(experiment, rows),
        posterior_version=tables.version,
        bot_requests=bots,
        published_at=timestamp(posterior.published_at) if posterior and tables.version else None,
    )
    if log is not None:
        numbers = {row.segment_key: row.segment for row in rows}
        await asyncio.to_thread(_estimate, response, experiment, tables, log, numbers)
    return response


def _estimate(
    response: pb.GetExperimentResultsResponse,
    experiment: Experiment,
    tables: PosteriorTables,
    log: SummedLog,
    numbers: dict[str, int],
) -> None:
    """Add the estimates of the view FULL. It runs in a thread, because many segments take long."""
    _add_chances(response.totals, experiment, tables, 0)
    _add_rates(response.totals, experiment, log, None)
    for segment in response.segments:
        number = numbers[segment.segment_key]
        _add_chances(segment.variants, experiment, tables, tables.rows.get(number))
        if number in log.segments:
            _add_rates(segment.variants, experiment, log, log.segments.index(number))
    set_estimate(response.segmentation_lift, estimates.segmentation_lift(log.log))
    set_estimate(response.adaptive_lift, estimates.adaptive_lift(log.log))
    p_value = estimates.sample_ratio_p_value(log.log)
    if p_value is not None:
        response.sample_ratio_p_value = p_value


def _add_rates(
    results: Iterable[pb.VariantResult], experiment: Experiment, log: SummedLog, segment: int | None
) -> None:
    """Add the rates of one segment's variants, or those of all users."""
    control = log.variants.index(experiment.control.number)
    for result, variant in zip(results, experiment.variants, strict=True):
        index = log.variants.index(variant.number)
        set_estimate(result.estimated_rate, estimates.variant_rate(log.log, index, segment))
        if index != control:
            set_estimate(result.difference, estimates.variant_contrast(log.log, index, control, segment))


def _add_chances(
    results: Iterable[pb.VariantResult], experiment: Experiment, tables: PosteriorTables, row: int | None
) -> None:
    """Add the chances of the variants to be best, if the posterior has a row for them."""
    if row is None:
        return
    chances = estimates.chances(tables.alpha[row], tables.beta[row])
    for result, variant in zip(results, experiment.variants, strict=True):
        arm = tables.arm_of.get(variant.number)
        if arm is not None:
            result.probability_best = float(chances.best[arm])
            result.expected_loss = float(chances.loss[arm])


def _segments(experiment: Experiment, rows: list[SegmentCount]) -> list[pb.SegmentResult]:
    by_segment: dict[int, list[SegmentCount]] = defaultdict(list)
    for row in rows:
        by_segment[row.segment].append(row)
    return [
        pb.SegmentResult(
            segment_key=cells[0].segment_key,
            segment_display_name=display_name(cells[0].segment_key, experiment.cluster_names),
            allocations=sum(cell.allocations for cell in cells),
            trials=sum(cell.trials for cell in cells),
            min_samples=0 if segment == GLOBAL_NUMBER else experiment.segmentation.min_samples_per_segment,
            variants=_variants(experiment, cells),
        )
        for segment, cells in by_segment.items()
    ]


def _variants(experiment: Experiment, rows: Iterable[SegmentCount]) -> list[pb.VariantResult]:
    of_variant: dict[int, list[SegmentCount]] = defaultdict(list)
    for row in rows:
        of_variant[row.variant].append(row)
    return [_variant(variant, of_variant[variant.number]) for variant in experiment.variants]


def _variant(variant: Variant, cells: list[SegmentCount]) -> pb.VariantResult:
    trials = sum(cell.trials for cell in cells)
    return pb.VariantResult(
        variant_id=variant.variant_id,
        name=variant.name,
        allocations=sum(cell.allocations for cell in cells),
        conversions=sum(cell.conversions for cell in cells),
        trials=trials,
        rate=sum(cell.successes for cell in cells) / trials if trials else None,
    )
