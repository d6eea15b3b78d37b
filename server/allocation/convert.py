"""The use case RecordConversion: finds the assignments that a conversion belongs to, and records it for each."""

import asyncio
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum

from allocator.errors import (
    BacklogFullError,
    ConversionBeforeAssignmentError,
    ExperimentStateError,
    InvalidFieldError,
)
from allocator.experiment import ExperimentState
from allocator.hashing import parse_assignment_id, user_key
from server.allocation.catalog import Catalog
from server.allocation.coalescer import MOST_WAITING
from server.allocation.records import Records
from storage.events import ConversionEvent
from storage.redis.sticky import ConversionAnswer

MOST_TOGETHER = 32  # conversions in flight for one batch
_EVENTS_AT_ONCE = MOST_WAITING // (2 * MOST_TOGETHER)  # so that a batch never takes all the room for waiting events
_ACTIVE = (ExperimentState.RUNNING, ExperimentState.PAUSED)


@dataclass(frozen=True)
class ConversionRequest:
    """A request whose fields were checked one by one. Either `assignment_id` or `user_identifier` is set."""

    assignment_id: str
    user_identifier: str = field(repr=False)
    experiment_id: str
    event_id: str
    metric: str
    value: float
    currency: str
    at: datetime


class Outcome(Enum):
    """The outcome of a conversion in one experiment."""

    RECORDED = b"R"
    DUPLICATE = b"D"
    NO_ASSIGNMENT = b"N"
    OUTSIDE_WINDOW = b"B"


@dataclass(frozen=True)
class ConversionResult:
    """The outcome in one experiment."""

    experiment_id: str
    outcome: Outcome


class Convert:
    """Finds the assignments by the catalog's index. `identity` is the key of the hashes of users (32 bytes)."""

    def __init__(self, catalog: Catalog, identity: bytes, records: Records) -> None:
        self._catalog = catalog
        self._identity = identity
        self._records = records

    async def __call__(self, request: ConversionRequest) -> list[ConversionResult]:
        """Record the conversion in each experiment concerned.

        Raises:
            InvalidFieldError, ExperimentNotFoundError, ExperimentStateError (DRAFT), BacklogFullError, and, where the
            request names its experiment, ConversionBeforeAssignmentError.
        """
        targets, key = await self._targets(request)
        events = [_event(request, number, key) for number in targets]
        answers: list[ConversionAnswer] = []
        for start in range(0, len(events), _EVENTS_AT_ONCE):
            chunk = events[start : start + _EVENTS_AT_ONCE]
            answers += await asyncio.gather(*self._records.convert(key, chunk))
        named = bool(request.assignment_id or request.experiment_id)
        results = []
        for experiment_id, answer in zip(targets.values(), answers, strict=True):
            outcome = _outcome(answer, named)
            if named or outcome is not Outcome.NO_ASSIGNMENT:
                results.append(ConversionResult(experiment_id, outcome))
        return results

    async def _targets(self, request: ConversionRequest) -> tuple[dict[int, str], bytes]:
        """Return the ids of the experiments concerned, by number, and the user's key."""
        if request.assignment_id:
            number, key = parse_assignment_id(self._identity, request.assignment_id)
            entry = await self._catalog.entry(number)
            if entry is None:
                raise InvalidFieldError.of("assignment_id", "is of an experiment that is not here")
            return {number: entry.experiment_id}, key
        key = user_key(self._identity, request.user_identifier)
        if not request.experiment_id:
            active = {n: e.experiment_id for n, e in self._catalog.index.items() if e.state in _ACTIVE}
            found = await self._records.find_experiments(key, tuple(active)) if active else ()
            return {number: active[number] for number in found if number in active}, key
        experiment = (await self._catalog.get(request.experiment_id)).experiment
        if experiment.state is ExperimentState.DRAFT:
            raise ExperimentStateError(
                f"experiment {experiment.experiment_id!r} is DRAFT: nobody is assigned",
                experiment_id=experiment.experiment_id,
                state=experiment.state.value,
            )
        return {experiment.number: experiment.experiment_id}, key


def _event(request: ConversionRequest, number: int, key: bytes) -> ConversionEvent:
    return ConversionEvent(
        experiment=number,
        user_key=key,
        metric=request.metric,
        event_id=request.event_id,
        value=request.value,
        currency=request.currency,
        occurred_at=int(request.at.timestamp()),
    )


def _outcome(answer: ConversionAnswer, named: bool) -> Outcome:
    if answer.code == b"F":
        raise BacklogFullError("the event stream is full, because no worker drains it; try again later")
    outcome = Outcome(answer.code)
    if outcome is Outcome.OUTSIDE_WINDOW and named:
        assigned_at = datetime.fromtimestamp(answer.assigned_at, UTC).isoformat()
        raise ConversionBeforeAssignmentError(
            f"event_time: the conversion is dated before its assignment, which was at {assigned_at}",
            assigned_at=assigned_at,
        )
    return outcome
