"""A database with one experiment, into which tests write events as the drain does."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

import asyncpg
import msgspec
import pytest

from allocator.experiment import Group, Reason
from storage.events import AssignmentEvent, ConversionEvent, Event, VisitEvent
from storage.postgres.events import drain
from storage.postgres.events.labels import Labeller
from storage.postgres.pool import connect
from tests.conftest import Clock
from tests.support.service import Service


@dataclass
class Log:
    """A database with one experiment, and events of that experiment."""

    connection: asyncpg.Connection
    experiment: int
    now: int
    labeller: Labeller

    def assigned(self, user: int, variant: int = 0, **fields: object) -> AssignmentEvent:
        event = AssignmentEvent(
            experiment=self.experiment,
            user_key=user.to_bytes(16, "big"),
            variant=variant,
            segmentation_version=1,
            segment=0,
            segment_key="global",
            reason=Reason.SAMPLED,
            group=Group.ADAPTIVE,
            posterior_version=0,
            revision=2,
            propensity=0.4,
            marginal=0.4,
            q_segment=0.4,
            q_global=0.4,
            context={"source": "x"},
            assigned_at=self.now,
        )
        return msgspec.structs.replace(event, **fields)

    def converted(self, user: int, event_id: str = "e", metric: str = "conversion") -> ConversionEvent:
        return ConversionEvent(self.experiment, user.to_bytes(16, "big"), metric, event_id, 1.0, "", self.now)

    @property
    def today(self) -> int:
        return self.now // 86_400

    def visited(self, user: int, days_later: int) -> VisitEvent:
        return VisitEvent(self.experiment, user.to_bytes(16, "big"), self.today + days_later)

    async def visitors(self) -> dict[int, int]:
        """Return the visitors of each day, keyed by days from now."""
        rows = await self.connection.fetch("SELECT day - DATE '1970-01-01', visitors FROM experiment_traffic_stats")
        return {day - self.today: visitors for day, visitors in rows}

    async def write(self, events: Sequence[Event]) -> set[int]:
        return await drain.write(self.connection, events, self.labeller)

    async def counts(self) -> list[tuple[int, int, int]]:
        """Check the counts against the log. Return (variant, trials, successes) of each variant."""
        rows = await self.connection.fetch(
            "SELECT variant_no, sum(trials)::int, sum(successes)::int FROM segment_counts GROUP BY 1 ORDER BY 1"
        )
        recounted = await self.connection.fetch(
            "SELECT variant_no, count(*)::int, count(converted_at)::int FROM assignments GROUP BY 1 ORDER BY 1"
        )
        assert rows == recounted
        return [tuple(row) for row in rows]


@pytest.fixture
async def log(service: Service, dsn: str, clock: Clock, labeller: Labeller) -> AsyncIterator[Log]:
    await service.running()
    connection = await connect(dsn)
    number = await connection.fetchval("SELECT experiment_no FROM experiments")
    yield Log(connection, number, int(clock.now.timestamp()), labeller)
    await connection.close()
