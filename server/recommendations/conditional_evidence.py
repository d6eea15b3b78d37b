"""Conditional evidence: what one dimension adds beside the other dimensions that an experiment is segmented by.

It answers whether one more dimension, or one fewer, would do better. It reads the log and changes nothing; what is
recommended from it is for `server.recommendations.proposals` to say.
"""

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta

import numpy as np

from allocator.estimates import Estimate
from allocator.experiment import Experiment, SegmentationMode
from allocator.limits import MAX_DIMENSIONS
from allocator.segmentation import Eligibility, expected_lift
from allocator.segmentation.evidence import ERROR, LARGEST_LOG, segmentation_evidence
from allocator.segments import attribute_name
from storage.postgres.counts import dimensions
from storage.postgres.counts.dimensions import ConditionalCount
from storage.postgres.pool import Connection
from storage.postgres.segmentation.serving_state import ServingState

_SERVED_BEFORE_DROPPING = timedelta(days=30)


@dataclass(frozen=True)
class ConditionalEvidence:
    """The evidence for one dimension among users who are alike in all other dimensions of the segmentation.

    dimension: its name in contexts.
    e_value: the other dimensions divide the users into segments. For each pair of arms, the e-values of all these
        segments are multiplied. Segments have different users, so each product is an e-value. This is the largest one.
    needed: the evidence is enough from this e-value on.
    every_arm_is_beaten: whether, in at least one of these segments, each arm is beaten for some value of the dimension.
    expected: the lift to be expected of dividing each of these segments by the dimension, in conversion rate (0.01 is
        one percentage point). None where it cannot be estimated.
    trials, days: how many mature users were counted, and on how many days they came.
    """

    dimension: str
    e_value: float
    needed: float
    every_arm_is_beaten: bool
    expected: Estimate | None
    trials: int
    days: int


@dataclass(frozen=True)
class DimensionChanges:
    """The evidence for each dimension that may be added, and for each that may be dropped."""

    to_add: tuple[ConditionalEvidence, ...] = ()
    to_drop: tuple[ConditionalEvidence, ...] = ()


NO_CHANGES = DimensionChanges()


async def find_dimension_changes(
    connection: Connection,
    experiment: Experiment,
    state: ServingState,
    eligibility: Eligibility,
    arms: tuple[int, ...],
    first_day: date,
    now: datetime,
) -> DimensionChanges:
    """Read the conditional evidence for every dimension that may be added or dropped.

    A dimension may be added if it has enough evidence by itself. One that serves may be dropped after 30 days, unless
    it is the only one. Each of them costs one read of the log. Only mode MANUAL has any.

    arms: variant numbers in the order of the arms. first_day: users who were assigned earlier do not count.
    """
    if experiment.segmentation.mode is not SegmentationMode.MANUAL:
        return NO_CHANGES
    serving = [attribute_name(name) for name in experiment.segmentation.segment_by]
    with_evidence = [each for each in eligibility.dimensions if each.evidence is not None]
    candidates = [
        each.dimension
        for each in with_evidence
        if each.evidence is not None and each.evidence.is_enough and each.dimension not in serving
    ]
    looked_at = max(len(with_evidence), 1)

    async def evidence_for(dimension: str, others: list[str]) -> ConditionalEvidence:
        rows = await dimensions.conditional_counts(connection, experiment, others, dimension, arms, first_day, now)
        return await asyncio.to_thread(_judge, dimension, rows, arms, looked_at)

    to_add, to_drop = [], []
    if len(serving) < MAX_DIMENSIONS:
        to_add = [await evidence_for(name, serving) for name in candidates]
    since = state.serves_since or experiment.started_at
    if len(serving) > 1 and since is not None and now - since >= _SERVED_BEFORE_DROPPING:
        to_drop = [await evidence_for(name, [other for other in serving if other != name]) for name in serving]
    return DimensionChanges(tuple(to_add), tuple(to_drop))


def _judge(
    dimension: str, rows: Sequence[ConditionalCount], arms: tuple[int, ...], looked_at: int
) -> ConditionalEvidence:
    """Turn counted users into the evidence for a dimension.

    rows: users by segment (of the other dimensions), value of the dimension, day and variant. arms: variant numbers in
    the order of the arms. looked_at: how many dimensions are examined, at least 1.
    """
    day_index = {day: index for index, day in enumerate(sorted({row.day for row in rows}))}
    cell_index: dict[tuple[str, str], int] = {}
    for row in rows:
        cell_index.setdefault((row.segment, row.value), len(cell_index))
    trials, successes = np.zeros((2, len(day_index), len(cell_index), len(arms)), np.int64)
    for row in rows:
        position = day_index[row.day], cell_index[row.segment, row.value], arms.index(row.variant)
        trials[position], successes[position] = row.trials, row.successes
    cells_of_segment: dict[str, list[int]] = defaultdict(list)
    for (segment, _value), cell in cell_index.items():
        cells_of_segment[segment].append(cell)
    by_segment = [
        segmentation_evidence(trials[:, cells], successes[:, cells], looked_at=looked_at)
        for cells in cells_of_segment.values()
    ]
    log_products = sum((np.log(each.pairs) for each in by_segment), np.zeros((len(arms), len(arms))))
    largest_log = min(log_products[np.triu_indices(len(arms), 1)].max(initial=-LARGEST_LOG), LARGEST_LOG)
    segment_index = {segment: index for index, segment in enumerate(cells_of_segment)}
    segment_of_cell = np.array([segment_index[segment] for segment, _value in cell_index], np.int64)
    return ConditionalEvidence(
        dimension,
        e_value=float(np.exp(largest_log)),
        needed=max((each.needed for each in by_segment), default=looked_at / ERROR),
        every_arm_is_beaten=any(each.every_arm_is_beaten for each in by_segment),
        expected=expected_lift(trials, successes, segment_of_cell) if rows else None,
        trials=int(trials.sum()),
        days=len(day_index),
    )
