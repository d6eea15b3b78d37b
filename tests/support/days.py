"""Days of simulated users for a service whose clock is simulated too."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from google.rpc import code_pb2
from samplit.admin.v1 import experiment_pb2, experiment_service_pb2
from samplit.allocation.v1 import allocation_service_pb2 as pb
from samplit.allocation.v1 import context_pb2

from tests.conftest import Clock
from tests.support.service import Service

_CALL = 500
_DEVICES, _COUNTRIES = ("mobile", "desktop", "tablet"), ("BR", "DE", "US")
_WAIT_SECONDS = 60


@dataclass(frozen=True)
class Person:
    """A user: what is known of them, and the probability that they convert with each variant."""

    rates: Mapping[str, float]
    web: Mapping[str, str] = field(default_factory=dict)
    attributes: Mapping[str, str] = field(default_factory=dict)


Population = Callable[[np.random.Generator, int], Sequence[Person]]
Rates = Mapping[str, Mapping[str, float]]  # by source and variant


def of_sources(rates: Rates) -> Population:
    """Return a population that draws source, device and country at random, each value with equal probability."""

    def draw(rng: np.random.Generator, users: int) -> list[Person]:
        sources = [list(rates)[position] for position in rng.integers(0, len(rates), users)]
        devices, countries = rng.choice(_DEVICES, users), rng.choice(_COUNTRIES, users)
        return [
            Person(rates[source], {"utm_source": source, "device": str(device), "country_code": str(country)})
            for source, device, country in zip(sources, devices, countries, strict=True)
        ]

    return draw


CROSSOVER = of_sources({"instagram": {"control": 0.10, "b": 0.14}, "google": {"control": 0.14, "b": 0.10}})
FLAT = of_sources({source: {"control": 0.12, "b": 0.12} for source in ("instagram", "google")})


def two_variants(**fields: Any) -> experiment_pb2.Experiment:
    """Return an experiment with the variants control and b."""
    variants = [experiment_pb2.Variant(variant_id=name, name=name) for name in ("control", "b")]
    return experiment_pb2.Experiment(**{"experiment_id": "cta", "name": "CTA", "variants": variants, **fields})


class Days:
    """Sends users of a population, and their conversions."""

    def __init__(self, service: Service, clock: Clock, experiment_id: str = "cta", *, seed: int = 1) -> None:
        self.service = service
        self.clock = clock
        self.experiment_id = experiment_id
        self.allocations = 0
        self.conversions = 0
        self._rng = np.random.default_rng(seed)

    async def part(self, users: int, population: Population) -> None:
        """Send new users, and wait until all are stored and counted."""
        for first in range(0, users, _CALL):
            await self._call(min(_CALL, users - first), population)
        await self._stored()

    async def day(self, users: int, population: Population, parts: int = 4) -> None:
        """Send a day's users in equal parts. Each part is counted before the next."""
        for _ in range(parts):
            await self.part(users // parts, population)
            self.clock.advance(hours=24 / parts)

    async def check(self, **fields: Any) -> Any:
        """Check eligibility now."""
        return await self.service.call("CheckEligibility", experiment_id=self.experiment_id, **fields)

    async def serving(self) -> Any:
        """Wait until no segmentation is being prepared. Return the one that serves."""
        async with asyncio.timeout(_WAIT_SECONDS):
            while True:
                answer = await self.service.call("GetSegmentationConfig", experiment_id=self.experiment_id)
                if not answer.segmentation.HasField("pending"):
                    return answer.segmentation
                await asyncio.sleep(0.02)

    async def _call(self, users: int, population: Population) -> None:
        people = population(self._rng, users)
        requests = [
            pb.AllocateUserRequest(
                experiment_id=self.experiment_id,
                user_identifier=f"u{self.allocations + number}",
                web=context_pb2.WebContext(**person.web),
                attributes=person.attributes,
            )
            for number, person in enumerate(people)
        ]
        stub = self.service.allocation
        answer = await self._answered(stub.AllocateUsers, pb.AllocateUsersRequest(requests=requests))
        won = [
            pb.RecordConversionRequest(assignment_id=item.allocation.assignment_id, event_id="order")
            for item, person in zip(answer.items, people, strict=True)
            if self._rng.random() < person.rates[item.allocation.variant_id]
        ]
        await self._answered(stub.RecordConversions, pb.RecordConversionsRequest(requests=won))
        self.allocations += users
        self.conversions += len(won)

    async def _answered(self, method: Any, request: Any) -> Any:
        """Call until every item is OK. Items are UNAVAILABLE while Redis is late."""
        async with asyncio.timeout(_WAIT_SECONDS):
            while True:
                answer = await method(request, metadata=self.service.metadata)
                problems = {item.status.code: item.status.message for item in answer.items if item.status.code}
                if not problems:
                    return answer
                assert set(problems) == {code_pb2.UNAVAILABLE}, problems
                await asyncio.sleep(0.1)

    async def _stored(self) -> None:
        async with asyncio.timeout(_WAIT_SECONDS):
            while True:
                results = await self.service.call(
                    "GetExperimentResults",
                    experiment_id=self.experiment_id,
                    view=experiment_service_pb2.RESULTS_VIEW_COUNTS,
                )
                counted = sum(v.allocations for v in results.totals), sum(v.conversions for v in results.totals)
                if counted == (self.allocations, self.conversions):
                    return
                await asyncio.sleep(0.02)
