"""Conversions that name no experiment, where thousands of experiments run: the work follows what a user is in."""

from collections.abc import Sequence
from typing import Any

import pytest
from samplit.allocation.v1 import allocation_service_pb2 as pb

from allocator.experiment import ExperimentState
from storage.events import ConversionEvent
from storage.redis import sticky
from storage.redis.published import IndexEntry
from tests.support.service import Service

_EXPERIMENTS = 2_000
_USERS = 1_000
_RECORDED = pb.CONVERSION_OUTCOME_RECORDED


@pytest.fixture
def converted(monkeypatch: pytest.MonkeyPatch) -> list[ConversionEvent]:
    """The events that are sent to Redis."""
    sent: list[ConversionEvent] = []
    convert = sticky.convert

    def count(connection: Any, shard: int, epoch: bytes, events: Sequence[ConversionEvent], done: Any) -> None:
        sent.extend(events)
        convert(connection, shard, epoch, events, done)

    monkeypatch.setattr(sticky, "convert", count)
    return sent


async def begin(service: Service) -> None:
    """Two experiments, among thousands that nobody here is in."""
    for name in ("one", "two"):
        await service.running(experiment_id=name)
    for n in range(_USERS):
        if n % 2 == 0:
            await service.allocate("one", f"u{n}")
        if n % 3 == 0:
            await service.allocate("two", f"u{n}")
    index = service.application.data_plane.catalog.index
    index.update({number: IndexEntry(f"other-{number}", ExperimentState.RUNNING) for number in range(10, _EXPERIMENTS)})


def expected(n: int) -> list[tuple[str, int]]:
    found = [name for name, every in (("one", 2), ("two", 3)) if n % every == 0]
    return [(name, _RECORDED) for name in found]


async def test_a_batch_sends_one_event_for_each_experiment_of_a_user(
    service: Service, converted: list[ConversionEvent]
) -> None:
    await begin(service)
    requests = [pb.RecordConversionRequest(user_identifier=f"u{n}", event_id="e") for n in range(_USERS)]
    answer = await service.allocation.RecordConversions(
        pb.RecordConversionsRequest(requests=requests), metadata=service.metadata
    )
    outcomes = [[(each.experiment_id, each.outcome) for each in item.results] for item in answer.items]
    assert outcomes == [expected(n) for n in range(_USERS)]
    assert len(converted) == sum(len(each) for each in outcomes)


async def test_a_single_call_sends_one_event_for_each_experiment_of_a_user(
    service: Service, converted: list[ConversionEvent]
) -> None:
    await begin(service)
    for n in (0, 1, 2, 3):
        answer = await service.convert(user_identifier=f"u{n}", event_id="e")
        assert [(each.experiment_id, each.outcome) for each in answer.results] == expected(n)
    assert len(converted) == 4
    again = await service.convert(user_identifier="u0", event_id="e")
    assert {each.outcome for each in again.results} == {pb.CONVERSION_OUTCOME_DUPLICATE}
