"""Compares the counts with the log of assignments that they summarise, and repairs them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from storage.postgres.counts import dimensions
from storage.postgres.counts.cohorts import recount_all
from storage.postgres.counts.recount import Difference, differences
from storage.postgres.counts.recount import repair as repair_counts
from storage.postgres.pool import Connection


@dataclass(frozen=True)
class Differences:
    """How the counts differ from the log.

    counts: one for each experiment, segment, variant and day whose counts differ.
    by_dimension: how many of the counts by dimension (which the audience breakdown shows) differ.
    """

    counts: Sequence[Difference]
    by_dimension: int

    def __bool__(self) -> bool:
        """Whether anything differs."""
        return bool(self.counts or self.by_dimension)


async def compare(connection: Connection) -> Differences:
    """Compare every count with the log. Changes nothing."""
    return Differences(await differences(connection), await dimensions.differences(connection))


async def repair(connection: Connection, found: Differences, now: datetime) -> None:
    """Add what `compare` found missing, and recount what the log has by cohort and dimension.

    The worker publishes new posteriors within seconds, since they follow from the counts.
    """
    await repair_counts(connection, found.counts)
    await recount_all(connection, now)
    await dimensions.repair(connection)
