"""The use case AllocateUser: from a checked request to a recorded decision.

A call has three steps, so that a batch makes one round trip. First `prepare` decides, then `Records` looks the user up
or stores the decision, then `finish` makes the answer from the record. Knows nothing of gRPC.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from enum import IntEnum
from functools import partial
from typing import Any, Protocol

import msgspec

from allocator.context import Email, Funnel, Push, Web, day_number, extract
from allocator.decision import decide
from allocator.errors import (
    BacklogFullError,
    ExperimentStateError,
    InvalidFieldError,
    StoreUnavailableError,
)
from allocator.experiment import Experiment, ExperimentState, OutagePolicy, Reason, Variant
from allocator.hashing import assignment_id, user_key
from allocator.segments import OTHER, OTHER_NUMBER
from server import metrics
from server.allocation.bot_counter import BotCounter
from server.allocation.catalog import Catalog
from server.allocation.coalescer import settle
from server.allocation.postgres_fallback import PostgresFallback
from server.allocation.records import OUTAGE, Records
from server.allocation.returning_users import ReturningUsers
from server.allocation.snapshot import Snapshot
from storage.events import AssignmentEvent
from storage.records import EXISTING, NEW, NONE, Found, Lookup
from storage.redis.client import OutOfMemoryError


class AllocationRequest(msgspec.Struct, frozen=True, gc=False):
    """A request whose fields were checked one by one. `at` is in Unix seconds."""

    experiment_id: str
    user_identifier: str
    channel: Web | Email | Funnel | Push | None
    attributes: Mapping[str, str]
    at: int
    force_variant_id: str

    def __repr__(self) -> str:
        """Return nothing of the user."""
        return f"AllocationRequest({self.experiment_id!r})"


class AssignmentState(IntEnum):
    """Whether the user's assignment is new. The numbers are those of samplit.allocation.v1.AssignmentState."""

    NEW = 1
    EXISTING = 2
    NONE = 3


class Allocation(msgspec.Struct, frozen=True, gc=False):
    """The answer. `reason` is a Reason. `assignment_id` and `assigned_at` (Unix seconds) are empty without a record."""

    snapshot: Snapshot
    variant: Variant
    segment_key: str
    reason: int
    state: AssignmentState
    assignment_id: bytes = b""
    assigned_at: int = 0


class Candidate(msgspec.Struct, frozen=True, gc=False):
    """A decision that becomes the user's assignment, unless they have one.

    Without an event in the look-up the user is only looked up.
    """

    snapshot: Snapshot
    segment_key: str
    lookup: Lookup


class Missing(msgspec.Struct, frozen=True, gc=False):
    """Something that the step needs is not in memory.

    load: loads it, and returns the answer if it has one. If it returns None, take the step again. It raises the errors
    of `Allocate.__call__`.
    """

    load: Callable[[], Awaitable[Allocation | None]]


class Cancellable(Protocol):
    """A call that goes on."""

    def cancel(self) -> object:
        """Give the call up: nobody waits for its answer any more."""


class Allocate:
    """Decides by the catalog's snapshots. `identity` is the key of the hashes of users (32 bytes)."""

    def __init__(
        self,
        catalog: Catalog,
        identity: bytes,
        records: Records,
        returning: ReturningUsers,
        fallback: PostgresFallback,
        bots: BotCounter,
    ) -> None:
        self._catalog = catalog
        self._identity = identity
        self.records = records
        self._returning = returning
        self._fallback = fallback
        self._bots = bots
        self._tasks: set[asyncio.Task[None]] = set()

    async def __call__(self, request: AllocationRequest) -> Allocation:
        """Allocate one user.

        Raises:
            ExperimentNotFoundError, ExperimentStateError (DRAFT), InvalidFieldError, BacklogFullError, OverloadedError,
            StoreUnavailableError.
        """
        future: asyncio.Future[Allocation] = asyncio.get_running_loop().create_future()
        begun = self.begin(request, partial(settle, future))
        if isinstance(begun, Allocation):
            return begun
        try:
            return await future
        finally:
            begun.cancel()

    def begin(
        self, request: AllocationRequest, done: Callable[[Allocation | Exception], None]
    ) -> Allocation | Cancellable:
        """Return the answer if it is known at once. Else return what cancels the call, and call `done` later.

        `done` gets the answer, or an error of `__call__`. Errors that are known at once are raised.
        """
        prepared = self.prepare_now(request)
        if isinstance(prepared, Allocation):
            return prepared
        if isinstance(prepared, Candidate):
            return self.records.allocate(prepared.lookup, partial(self._found, prepared, done))
        return self._later(self._load_and_allocate(request), done)

    def _found(
        self, candidate: Candidate, done: Callable[[Allocation | Exception], None], found: Found | Exception
    ) -> None:
        """Answer by the record of a user, or by what is known while it cannot be read."""
        if isinstance(found, Exception):
            if isinstance(found, OUTAGE):
                self._later(self.during_outage(candidate, found), done)
            else:
                done(found)
            return
        try:
            answer = self.finish_now(candidate, found)
        except Exception as error:
            done(error)
            return
        if isinstance(answer, Missing):
            self._later(self._load_existing(candidate.snapshot, candidate.lookup, found), done)
        else:
            done(answer)

    def _later(
        self, answer: Coroutine[Any, Any, Allocation], done: Callable[[Allocation | Exception], None]
    ) -> asyncio.Task[None]:
        task = asyncio.create_task(_answer(answer, done))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _load_and_allocate(self, request: AllocationRequest) -> Allocation:
        prepared = await self.prepare(request)
        if isinstance(prepared, Allocation):
            return prepared
        future: asyncio.Future[Found] = asyncio.get_running_loop().create_future()
        ticket = self.records.allocate(prepared.lookup, partial(settle, future))
        try:
            found = await future
        except OUTAGE as error:
            return await self.during_outage(prepared, error)
        finally:
            ticket.cancel()
        return await self.finish(prepared, found)

    async def prepare(self, request: AllocationRequest) -> Allocation | Candidate:
        """Return the answer where nothing is recorded or the user is remembered, else a decision.

        Raises as `__call__`.
        """
        while True:
            prepared = self.prepare_now(request)
            if not isinstance(prepared, Missing):
                return prepared
            answer = await prepared.load()
            if answer is not None:
                return answer

    async def finish(self, candidate: Candidate, found: Found) -> Allocation:
        """Return the answer that the record gives. Raises BacklogFullError."""
        answer = self.finish_now(candidate, found)
        if isinstance(answer, Missing):
            return await self._load_existing(candidate.snapshot, candidate.lookup, found)
        return answer

    def prepare_now(self, request: AllocationRequest) -> Allocation | Candidate | Missing:
        """Prepare as far as memory allows. Raises as `__call__`."""
        snapshot = self._catalog.known(request.experiment_id)
        if snapshot is None:
            return Missing(partial(self._load_experiment, request.experiment_id))
        experiment = snapshot.experiment
        context = extract(request.channel, request.attributes, request.at, experiment.time_zone)
        key = snapshot.segment_key(context.dimensions)
        if request.force_variant_id:
            forced = experiment.variant(request.force_variant_id)
            if forced is None:
                raise InvalidFieldError.of("force_variant_id", f"must be one of {_variant_ids(experiment)}")
            return _unrecorded(snapshot, forced, key, Reason.OVERRIDE)
        if experiment.state is ExperimentState.DRAFT:
            raise ExperimentStateError(
                f"experiment {experiment.experiment_id!r} is DRAFT: start it first",
                experiment_id=experiment.experiment_id,
                state=experiment.state.value,
            )
        day = day_number(request.at, experiment.time_zone)
        if context.is_bot:
            self._bots.count(experiment.number, day)
            return _unrecorded(snapshot, snapshot.control, key, Reason.BOT)
        if experiment.state is ExperimentState.COMPLETED:
            winner = experiment.variant(experiment.winner_variant_id) or snapshot.control
            return _unrecorded(snapshot, winner, key, Reason.COMPLETED)
        user = user_key(self._identity, request.user_identifier)
        known = self._returning.get(experiment.number, user, day)
        if known is not None:
            metrics.returning_users.inc()
            return self._existing(snapshot, Lookup(experiment.number, user, day, None), known)
        if experiment.state is ExperimentState.PAUSED:
            return Candidate(snapshot, key, Lookup(experiment.number, user, day, None))
        segment = OTHER_NUMBER if key == OTHER else snapshot.segments.known(key, experiment.segmentation.max_segments)
        if segment is None:
            candidate = Candidate(snapshot, key, Lookup(experiment.number, user, day, None))
            return Missing(partial(self._register_segment, candidate))
        if segment == OTHER_NUMBER:
            key = OTHER
        event = _event(snapshot, user, segment, key, context.dimensions, request.at)
        return Candidate(snapshot, key, Lookup(experiment.number, user, day, event))

    def finish_now(self, candidate: Candidate, found: Found) -> Allocation | Missing:
        """Finish as far as memory allows. Raises BacklogFullError."""
        code = found.code
        if code == NEW:
            snapshot = candidate.snapshot
            return Allocation(
                snapshot,
                snapshot.variants[found.variant],
                candidate.segment_key,
                found.reason,
                AssignmentState.NEW,
                self._assignment_id(candidate.lookup),
                found.assigned_at,
            )
        if code == EXISTING:
            return self._existing(candidate.snapshot, candidate.lookup, found)
        if code == NONE:
            return _unrecorded(candidate.snapshot, candidate.snapshot.control, candidate.segment_key, Reason.PAUSED)
        raise BacklogFullError("the event stream is full, because no worker drains it; try again later")

    async def during_outage(self, candidate: Candidate, error: Exception) -> Allocation:
        """Return the answer while Redis is away or out of memory.

        Raises StoreUnavailableError if the experiment's `on_outage` says so, and `error` if Redis has no memory for a
        new user.
        """
        answer = await self._without_redis(candidate, error)
        metrics.degraded.inc()
        return answer

    async def _without_redis(self, candidate: Candidate, error: Exception) -> Allocation:
        snapshot = candidate.snapshot
        found = await self._fallback.find(candidate.lookup)
        if found is not None:
            return await self._load_existing(snapshot, candidate.lookup, found)
        if snapshot.experiment.state is ExperimentState.PAUSED:
            return _unrecorded(snapshot, snapshot.control, candidate.segment_key, Reason.PAUSED)
        if isinstance(error, OutOfMemoryError):
            raise error
        if snapshot.experiment.on_outage is OutagePolicy.UNAVAILABLE:
            raise StoreUnavailableError("Redis does not answer; try again")
        return _unrecorded(snapshot, snapshot.control, candidate.segment_key, Reason.DEGRADED)

    def _existing(self, snapshot: Snapshot, lookup: Lookup, found: Found) -> Allocation | Missing:
        variant = snapshot.variants.get(found.variant)
        key = None
        if found.segmentation_version == snapshot.experiment.segmentation_version:
            key = snapshot.segments.known_key(found.segment)
        if variant is None or key is None:
            return Missing(partial(self._load_existing, snapshot, lookup, found))
        return self._sticky(snapshot, variant, key, lookup, found)

    def _sticky(self, snapshot: Snapshot, variant: Variant, key: str, lookup: Lookup, found: Found) -> Allocation:
        return Allocation(
            snapshot,
            snapshot.control if variant.retired else variant,
            key,
            Reason.VARIANT_RETIRED if variant.retired else found.reason,
            AssignmentState.EXISTING,
            self._assignment_id(lookup),
            found.assigned_at,
        )

    async def _load_experiment(self, experiment_id: str) -> None:
        await self._catalog.get(experiment_id)

    async def _register_segment(self, candidate: Candidate) -> Allocation | None:
        snapshot = candidate.snapshot
        try:
            await snapshot.segments.learn(candidate.segment_key, snapshot.experiment.segmentation.max_segments)
        except OUTAGE as error:
            return await self.during_outage(candidate, error)
        return None

    async def _load_existing(self, snapshot: Snapshot, lookup: Lookup, found: Found) -> Allocation:
        """Answer an existing user after loading what is not in memory.

        That is a variant which was added since this process loaded the experiment, or a segment of another
        segmentation.
        """
        if found.variant not in snapshot.variants:
            await self._catalog.refresh(snapshot.experiment.experiment_id)
            snapshot = await self._catalog.get(snapshot.experiment.experiment_id)
        try:
            registry = await self._catalog.registry(snapshot.experiment.number, found.segmentation_version)
            key = await registry.key(found.segment)
        except OUTAGE:
            key = OTHER
        return self._sticky(snapshot, snapshot.variants[found.variant], key, lookup, found)

    def _assignment_id(self, lookup: Lookup) -> bytes:
        return assignment_id(self._identity, lookup.experiment, lookup.user_key)


async def _answer(answer: Coroutine[Any, Any, Allocation], done: Callable[[Allocation | Exception], None]) -> None:
    try:
        allocation = await answer
    except Exception as error:
        done(error)
    else:
        done(allocation)


def _event(
    snapshot: Snapshot, user: bytes, segment: int, key: str, dimensions: Mapping[str, str], at: int
) -> AssignmentEvent:
    experiment, tables = snapshot.experiment, snapshot.tables
    decision = decide(experiment, tables, user, segment)
    return AssignmentEvent(
        experiment.number,
        user,
        decision.variant,
        experiment.segmentation_version,
        segment,
        key,
        decision.reason,
        decision.group,
        tables.version,
        experiment.revision,
        decision.propensity,
        decision.marginal,
        decision.q_segment,
        decision.q_global,
        dimensions,
        at,
    )


def _unrecorded(snapshot: Snapshot, variant: Variant, key: str, reason: Reason) -> Allocation:
    return Allocation(snapshot, variant, key, reason, AssignmentState.NONE)


def _variant_ids(experiment: Experiment) -> str:
    return ", ".join(variant.variant_id for variant in experiment.variants)
