"""Whether one more dimension, or one fewer, would do better: what a dimension says beside the others."""

import asyncio
from collections import defaultdict
from dataclasses import dataclass
from datetime import date, datetime, timedelta

import numpy as np

from allocator.estimates import Estimate
from allocator.experiment import Experiment, SegmentationMode
from allocator.segmentation import Eligibility, expected_lift
from allocator.segmentation.evidence import ERROR, LARGEST_LOG, segmentation_evidence
from allocator.segmentation.limits import MAX_DIMENSIONS
from allocator.segments import attribute_name
from storage.postgres.counts import dimensions
from storage.postgres.counts.dimensions import WithinRow
from storage.postgres.pool import Connection
from storage.postgres.segmentation.serving_state import AdaptationState

_OLD_ENOUGH = timedelta(days=30)


@dataclass(frozen=True)
class DimensionWithin:
    """What a dimension says of users who are alike in the others.

    dimension: as contexts have it. e_value: the largest over pairs of arms of the product of E over the segments of
    the others, whose users are different ones, so that each product is an e-value. expected: what dividing each of
    these segments by it would bring.
    """

    dimension: str
    e_value: float
    needed: float
    every_arm_is_beaten: bool
    expected: Estimate | None
    trials: int
    days: int


async def dimensions_within(
    connection: Connection,
    experiment: Experiment,
    state: AdaptationState,
    eligibility: Eligibility,
    arms: tuple[int, ...],
    first: date,
    now: datetime,
) -> tuple[tuple[DimensionWithin, ...], tuple[DimensionWithin, ...]]:
    """Dimensions to add, that have evidence by themselves, and those that serve, once they have for a month.

    Reads the log, once for each that comes into question.
    """
    if experiment.segmentation.mode is not SegmentationMode.MANUAL:
        return (), ()
    serving = [attribute_name(name) for name in experiment.segmentation.segment_by]
    candidates = [
        each.dimension
        for each in eligibility.dimensions
        if each.evidence is not None and each.evidence.is_enough and each.dimension not in serving
    ]
    looked_at = max(sum(each.evidence is not None for each in eligibility.dimensions), 1)

    async def within(dimension: str, others: list[str]) -> DimensionWithin:
        return await _within(connection, experiment, dimension, others, arms, first, now, looked_at)

    to_add = [await within(name, serving) for name in candidates] if len(serving) < MAX_DIMENSIONS else []
    to_drop = []
    since = state.serves_since or experiment.started_at
    if len(serving) > 1 and since is not None and now - since >= _OLD_ENOUGH:
        to_drop = [await within(name, [other for other in serving if other != name]) for name in serving]
    return tuple(to_add), tuple(to_drop)


async def _within(
    connection: Connection,
    experiment: Experiment,
    dimension: str,
    others: list[str],
    arms: tuple[int, ...],
    first: date,
    now: datetime,
    looked_at: int,
) -> DimensionWithin:
    rows = await dimensions.within(connection, experiment, others, dimension, arms, first, now)
    return await asyncio.to_thread(_judged, dimension, rows, arms, looked_at)


def _judged(dimension: str, rows: list[WithinRow], arms: tuple[int, ...], looked_at: int) -> DimensionWithin:
    days = {day: place for place, day in enumerate(sorted({row.day for row in rows}))}
    cells: dict[tuple[str, str], int] = {}
    for row in rows:
        cells.setdefault((row.segment, row.value), len(cells))
    trials, successes = np.zeros((2, len(days), len(cells), len(arms)), np.int64)
    for row in rows:
        place = days[row.day], cells[row.segment, row.value], arms.index(row.variant)
        trials[place], successes[place] = row.trials, row.successes
    of_segment: dict[str, list[int]] = defaultdict(list)
    for (segment, _), cell in cells.items():
        of_segment[segment].append(cell)
    found = [
        segmentation_evidence(trials[:, each], successes[:, each], looked_at=looked_at) for each in of_segment.values()
    ]
    logs = sum((np.log(each.pairs) for each in found), np.zeros((len(arms), len(arms))))
    group_of = {segment: group for group, segment in enumerate(of_segment)}
    groups = np.array([group_of[segment] for segment, _ in cells], np.int64)
    return DimensionWithin(
        dimension,
        e_value=float(np.exp(min(logs[np.triu_indices(len(arms), 1)].max(initial=-LARGEST_LOG), LARGEST_LOG))),
        needed=max((each.needed for each in found), default=looked_at / ERROR),
        every_arm_is_beaten=any(each.every_arm_is_beaten for each in found),
        expected=expected_lift(trials, successes, groups) if rows else None,
        trials=int(trials.sum()),
        days=len(days),
    )
