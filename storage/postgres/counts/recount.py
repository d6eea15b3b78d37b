"""Compares counts with the log that they summarise, in one snapshot, and adds what is missing."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from storage.postgres.counts import counts
from storage.postgres.counts.counts import Cell, CellChange
from storage.postgres.pool import Connection

_DIFFERENCES = """
    SELECT experiment_no AS experiment, segmentation_version, segment_no AS segment, variant_no AS variant, day,
        coalesce(l.trials, 0) - coalesce(c.trials, 0) AS trials,
        coalesce(l.successes, 0) - coalesce(c.successes, 0) AS successes
    FROM (SELECT * FROM segment_counts WHERE $1::int IS NULL OR experiment_no = $1) c FULL JOIN (
        SELECT experiment_no, v.segmentation_version, (cells ->> v.segmentation_version::text)::int AS segment_no,
            variant_no, day, count(*) AS trials,
            count(*) FILTER (WHERE is_success(assigned_at, converted_at, maturity_seconds)) AS successes
        FROM assignments JOIN experiments USING (experiment_no) JOIN counted_segmentations v USING (experiment_no)
        WHERE ($1::int IS NULL OR experiment_no = $1) AND cells ? v.segmentation_version::text
        GROUP BY 1, 2, 3, 4, 5
    ) l USING (experiment_no, segmentation_version, segment_no, variant_no, day)
    WHERE (coalesce(l.trials, 0), coalesce(l.successes, 0)) <> (coalesce(c.trials, 0), coalesce(c.successes, 0))
    ORDER BY 1, 2, 3, 4, 5
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


async def experiment_numbers(connection: Connection) -> list[int]:
    """Return the numbers of all experiments."""
    return [row["experiment_no"] for row in await connection.fetch("SELECT experiment_no FROM experiments ORDER BY 1")]


async def hold(connection: Connection, experiment_number: int) -> None:
    """Keep others from counting for an experiment until the transaction ends."""
    await connection.execute("SELECT FROM experiments WHERE experiment_no = $1 FOR UPDATE", experiment_number)


async def differences(connection: Connection, experiment_number: int | None = None) -> list[Difference]:
    """Return every cell that differs, of one experiment or of all.

    Workers may go on to drain events meanwhile: they change rows and counts together.
    """
    return [Difference(**row) for row in await connection.fetch(_DIFFERENCES, experiment_number)]


async def repair(connection: Connection, found: Sequence[Difference]) -> None:
    """Add what is missing to the counts as they are by now. The next posterior version knows it."""
    async with connection.transaction():
        versions = await connection.fetch(
            """
            SELECT experiment_no, posterior_version + 1 AS next_version FROM experiments
            WHERE experiment_no = ANY($1::int[]) ORDER BY experiment_no FOR SHARE
            """,
            sorted({each.experiment for each in found}),
        )
        next_versions = {row["experiment_no"]: row["next_version"] for row in versions}
        await counts.add(
            connection,
            [
                CellChange(
                    Cell(each.experiment, each.segmentation_version, each.segment, each.variant, each.day),
                    each.trials,
                    each.successes,
                    next_versions[each.experiment],
                )
                for each in found
            ],
        )
