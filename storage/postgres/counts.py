"""Counts: what is published from, and what results show."""

from dataclasses import dataclass

from allocator.posterior import Count
from storage.postgres.pool import Connection


@dataclass(frozen=True)
class SegmentCount:
    """Users assigned to a variant in a segment, and how many of them converted in the primary metric."""

    segment: int
    segment_key: str
    variant: int
    allocations: int
    conversions: int


async def daily_counts(connection: Connection, experiment_number: int, segmentation_version: int) -> list[Count]:
    """All counts of one segmentation, a day each."""
    rows = await connection.fetch(
        """
        SELECT segment_no, variant_no, day, trials, successes FROM segment_counts
        WHERE experiment_no = $1 AND segmentation_version = $2
        ORDER BY segment_no, variant_no, day
        """,
        experiment_number,
        segmentation_version,
    )
    return [Count(*row) for row in rows]


async def segment_counts(
    connection: Connection, experiment_number: int, segmentation_version: int
) -> list[SegmentCount]:
    """All counts of one segmentation, over all days."""
    rows = await connection.fetch(
        """
        SELECT c.segment_no, s.segment_key, c.variant_no, sum(c.trials)::bigint, sum(c.successes)::bigint
        FROM segment_counts c JOIN experiment_segments s USING (experiment_no, segmentation_version, segment_no)
        WHERE experiment_no = $1 AND segmentation_version = $2
        GROUP BY c.segment_no, s.segment_key, c.variant_no
        """,
        experiment_number,
        segmentation_version,
    )
    return [SegmentCount(*row) for row in rows]


async def unpublished(connection: Connection) -> set[int]:
    """Numbers of experiments with counts that no posterior version knows."""
    rows = await connection.fetch(
        """
        SELECT experiment_no FROM experiments e WHERE EXISTS (
            SELECT FROM segment_counts c
            WHERE c.experiment_no = e.experiment_no AND c.pending_version > e.posterior_version)
        """
    )
    return {row["experiment_no"] for row in rows}


async def experiment_ids(connection: Connection, numbers: set[int]) -> set[str]:
    """The ids of experiments by number."""
    rows = await connection.fetch(
        "SELECT experiment_id FROM experiments WHERE experiment_no = ANY($1::int[])", sorted(numbers)
    )
    return {row["experiment_id"] for row in rows}
