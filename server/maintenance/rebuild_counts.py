"""Compares the counts with the log of assignments that they summarise, and repairs them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from storage.postgres.counts import cohorts, dimensions, recount
from storage.postgres.counts.recount import Difference
from storage.postgres.pool import UNREACHABLE, Connection


@dataclass(frozen=True)
class Differences:
    """How the counts differ from the log.

    counts: one for each experiment, segment, variant and day whose counts differ.
    by_dimension: how many of the counts by dimension (which the audience breakdown shows) differ.
    failed: why experiments could not be compared, by their numbers.
    """

    counts: Sequence[Difference]
    by_dimension: int
    failed: Mapping[int, str] = field(default_factory=dict)

    def __bool__(self) -> bool:
        """Whether anything differs."""
        return bool(self.counts or self.by_dimension)


async def compare(connection: Connection) -> Differences:
    """Compare every count with the log, one experiment after the other. Changes nothing.

    An experiment that cannot be compared is named in `failed`, and the others are compared all the same.
    """
    found: list[Difference] = []
    by_dimension = 0
    failed: dict[int, str] = {}
    for number in await recount.experiment_numbers(connection):
        try:
            found += await recount.differences(connection, number)
            by_dimension += await dimensions.differences(connection, number)
        except Exception as error:
            if isinstance(error, UNREACHABLE):
                raise
            failed[number] = repr(error)
    return Differences(found, by_dimension, failed)


async def repair(connection: Connection, found: Differences, now: datetime) -> Mapping[int, str]:
    """Add what `compare` found missing, and recount what the log has by cohort and dimension.

    The worker publishes new posteriors within seconds, since they follow from the counts. Each experiment is repaired
    in a transaction of its own. Returns why experiments could not be repaired, by their numbers.
    """
    failed: dict[int, str] = {}
    for number in await recount.experiment_numbers(connection):
        try:
            async with connection.transaction():
                await recount.hold(connection, number)
                await recount.repair(connection, [each for each in found.counts if each.experiment == number])
                await cohorts.recount(connection, number, now)
                await dimensions.repair(connection, number)
        except Exception as error:
            if isinstance(error, UNREACHABLE):
                raise
            failed[number] = repr(error)
    return failed
