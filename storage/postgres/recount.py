"""The counts against the log that they summarise: compared in one snapshot, repaired by what is missing."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from storage.postgres.pool import Connection

_DIFFERENCES = """
    SELECT experiment_no, segmentation_version, segment_no, variant_no, day,
        coalesce(l.trials, 0) - coalesce(c.trials, 0) AS trials,
        coalesce(l.successes, 0) - coalesce(c.successes, 0) AS successes
    FROM segment_counts c FULL JOIN (
        SELECT experiment_no, segmentation_version, segment_no, variant_no, day,
            count(*) AS trials, count(converted_at) AS successes
        FROM assignments GROUP BY 1, 2, 3, 4, 5
    ) l USING (experiment_no, segmentation_version, segment_no, variant_no, day)
    WHERE (coalesce(l.trials, 0), coalesce(l.successes, 0)) <> (coalesce(c.trials, 0), coalesce(c.successes, 0))
    ORDER BY 1, 2, 3, 4, 5
"""
_CREATE_CELL = """
    INSERT INTO segment_counts (experiment_no, segmentation_version, segment_no, variant_no, day, trials, successes,
        pending_version)
    VALUES ($1, $2, $3, $4, $5, 0, 0, 0) ON CONFLICT DO NOTHING
"""
_ADD = """
    UPDATE segment_counts SET trials = trials + $6, successes = successes + $7, pending_version = $8
    WHERE (experiment_no, segmentation_version, segment_no, variant_no, day) = ($1, $2, $3, $4, $5)
"""


@dataclass(frozen=True)
class Difference:
    """A cell whose counts are not what the log says: the log's trials and successes less the counted ones."""

    experiment: int
    segmentation_version: int
    segment: int
    variant: int
    day: date
    trials: int
    successes: int


async def differences(connection: Connection) -> list[Difference]:
    """Every cell that differs. Drains may go on meanwhile: rows and counts change in one transaction."""
    return [Difference(*row) for row in await connection.fetch(_DIFFERENCES)]


async def repair(connection: Connection, found: Sequence[Difference]) -> None:
    """Add what is missing to the counts as they are by now, for the next posterior version to know."""
    async with connection.transaction():
        versions = await connection.fetch(
            """
            SELECT experiment_no, posterior_version + 1 AS pending_version FROM experiments
            WHERE experiment_no = ANY($1::int[]) ORDER BY experiment_no FOR SHARE
            """,
            sorted({each.experiment for each in found}),
        )
        pending = {row["experiment_no"]: row["pending_version"] for row in versions}
        for each in found:
            cell = (each.experiment, each.segmentation_version, each.segment, each.variant, each.day)
            await connection.execute(_CREATE_CELL, *cell)
            await connection.execute(_ADD, *cell, each.trials, each.successes, pending[each.experiment])
