"""The use case AllocateUser: from a checked request to a decision that is on record.

A call has three steps, so that a batch makes one round trip: `prepare` decides, `Records` looks up or stores, and
`finish` answers with what is there. Knows nothing of gRPC.
"""

from collections.abc import Mapping
from datetime import datetime
from enum import Enum
from typing import NamedTuple

from allocator.context import Context, Email, Funnel, Push, Web, day_number, extract
from allocator.decision import decide
from allocator.errors import BacklogFullError, ExperimentStateError, InvalidFieldError, StoreUnavailableError
from allocator.experiment import Experiment, ExperimentState, OutagePolicy, Reason, Variant
from allocator.hashing import assignment_id, user_key
from allocator.segments import OTHER, OTHER_NUMBER, segment_key
from server.allocation.bots import BotCounter
from server.allocation.outage import Postgres
from server.allocation.records import OUTAGE, Records
from server.allocation.returning import ReturningUsers
from server.catalog import Catalog, Snapshot
from storage.events import AssignmentEvent
from storage.records import EXISTING, NEW, NONE, Found, Lookup


class AllocationRequest(NamedTuple):
    """A request whose fields have been checked one by one."""

    experiment_id: str
    user_identifier: str
    channel: Web | Email | Funnel | Push | None
    attributes: Mapping[str, str]
    at: datetime
    force_variant_id: str


class AssignmentState(Enum):
    """What happened to the record."""

    NEW = "NEW"
    EXISTING = "EXISTING"
    NONE = "NONE"


class Allocation(NamedTuple):
    """The answer. `assigned_at` (Unix seconds) and `assignment_id` are empty where nothing is on record."""

    snapshot: Snapshot
    variant: Variant
    segment_key: str
    reason: Reason
    state: AssignmentState
    assignment_id: str = ""
    assigned_at: int = 0


class Pending(NamedTuple):
    """A decision that is not on record yet; without an event the user is only looked up."""

    snapshot: Snapshot
    segment_key: str
    lookup: Lookup


class Allocate:
    """Decides by the catalog's snapshots. `identity` keys the hashes of users."""

    def __init__(
        self,
        catalog: Catalog,
        identity: bytes,
        records: Records,
        returning: ReturningUsers,
        postgres: Postgres,
        bots: BotCounter,
    ) -> None:
        """Holds no state of its own."""
        self._catalog = catalog
        self._identity = identity
        self.records = records
        self._returning = returning
        self._postgres = postgres
        self._bots = bots

    async def __call__(self, request: AllocationRequest) -> Allocation:
        """Allocate one user.

        Raises:
            ExperimentNotFoundError, ExperimentStateError (DRAFT), InvalidFieldError, BacklogFullError, OverloadedError,
            StoreUnavailableError.
        """
        prepared = await self.prepare(request)
        if isinstance(prepared, Allocation):
            return prepared
        try:
            found = await self.records.allocate(prepared.lookup)
        except OUTAGE:
            return await self.during_outage(prepared)
        return await self.finish(prepared, found)

    async def prepare(self, request: AllocationRequest) -> Allocation | Pending:
        """Answer at once where nothing is recorded, or the user is known, else decide. Raises as `__call__`."""
        snapshot = self._catalog.known(request.experiment_id) or await self._catalog.get(request.experiment_id)
        experiment = snapshot.experiment
        context = extract(request.channel, request.attributes, request.at, experiment.time_zone)
        key = segment_key(experiment.segmentation.segment_by, context.dimensions)
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
        at = int(request.at.timestamp())
        day = day_number(at, experiment.time_zone)
        if context.is_bot:
            self._bots.count(experiment.number, day)
            return _unrecorded(snapshot, snapshot.control, key, Reason.BOT)
        if experiment.state is ExperimentState.COMPLETED:
            winner = experiment.variant(experiment.winner_variant_id) or snapshot.control
            return _unrecorded(snapshot, winner, key, Reason.COMPLETED)
        user = user_key(self._identity, request.user_identifier)
        lookup = Lookup(experiment.number, user, day, None)
        known = self._returning.get(experiment.number, user, day)
        if known is not None:
            return await self._existing(snapshot, lookup, known)
        if experiment.state is ExperimentState.PAUSED:
            return Pending(snapshot, key, lookup)
        return await self._decide(snapshot, key, lookup, context, at)

    async def finish(self, pending: Pending, found: Found) -> Allocation:
        """The answer, given what the record says. Raises BacklogFullError."""
        code = found.code
        if code == NEW:
            snapshot = pending.snapshot
            return Allocation(
                snapshot,
                snapshot.variants[found.variant],
                pending.segment_key,
                Reason(found.reason),
                AssignmentState.NEW,
                self._assignment_id(pending.lookup),
                found.assigned_at,
            )
        if code == EXISTING:
            return await self._existing(pending.snapshot, pending.lookup, found)
        if code == NONE:
            return _unrecorded(pending.snapshot, pending.snapshot.control, pending.segment_key, Reason.PAUSED)
        raise BacklogFullError("the event stream is full, since it is not drained; try again later")

    async def during_outage(self, pending: Pending) -> Allocation:
        """The answer while Redis is away. Raises StoreUnavailableError if the experiment wants that."""
        snapshot = pending.snapshot
        found = await self._postgres.find(pending.lookup)
        if found is not None:
            return await self._existing(snapshot, pending.lookup, found)
        if snapshot.experiment.state is ExperimentState.PAUSED:
            return _unrecorded(snapshot, snapshot.control, pending.segment_key, Reason.PAUSED)
        if snapshot.experiment.on_outage is OutagePolicy.UNAVAILABLE:
            raise StoreUnavailableError("Redis does not answer; try again")
        return _unrecorded(snapshot, snapshot.control, pending.segment_key, Reason.DEGRADED)

    async def _decide(
        self, snapshot: Snapshot, key: str, lookup: Lookup, context: Context, at: int
    ) -> Allocation | Pending:
        experiment = snapshot.experiment
        segment = snapshot.segments.known(key)
        if segment is None:
            try:
                segment = await snapshot.segments.number(key, experiment.segmentation.max_segments)
            except OUTAGE:
                return await self.during_outage(Pending(snapshot, key, lookup))
        if segment == OTHER_NUMBER:
            key = OTHER
        decision = decide(experiment, snapshot.tables, lookup.user_key, segment)
        event = AssignmentEvent(
            experiment.number,
            lookup.user_key,
            decision.variant,
            experiment.segmentation_version,
            segment,
            key,
            decision.reason,
            decision.group,
            snapshot.tables.version,
            experiment.revision,
            decision.propensity,
            decision.marginal,
            decision.q_segment,
            decision.q_global,
            dict(context.dimensions),
            at,
        )
        return Pending(snapshot, key, lookup._replace(event=event))

    async def _existing(self, snapshot: Snapshot, lookup: Lookup, found: Found) -> Allocation:
        variant = snapshot.variants.get(found.variant)
        if variant is None:  # added since this process looked
            await self._catalog.refresh(snapshot.experiment.experiment_id)
            snapshot = await self._catalog.get(snapshot.experiment.experiment_id)
            variant = snapshot.variants[found.variant]
        return Allocation(
            snapshot,
            snapshot.control if variant.retired else variant,
            await self._segment_key(snapshot, found),
            Reason.VARIANT_RETIRED if variant.retired else Reason(found.reason),
            AssignmentState.EXISTING,
            self._assignment_id(lookup),
            found.assigned_at,
        )

    async def _segment_key(self, snapshot: Snapshot, found: Found) -> str:
        """What was answered to the user; "other" where an outage hides it."""
        registry = snapshot.segments
        if found.segmentation_version == snapshot.experiment.segmentation_version:
            key = registry.known_key(found.segment)
            if key is not None:
                return key
        try:
            registry = await self._catalog.registry(snapshot.experiment.number, found.segmentation_version)
            return await registry.key(found.segment)
        except OUTAGE:
            return OTHER

    def _assignment_id(self, lookup: Lookup) -> str:
        return assignment_id(self._identity, lookup.experiment, lookup.user_key)


def _unrecorded(snapshot: Snapshot, variant: Variant, key: str, reason: Reason) -> Allocation:
    return Allocation(snapshot, variant, key, reason, AssignmentState.NONE)


def _variant_ids(experiment: Experiment) -> str:
    return ", ".join(variant.variant_id for variant in experiment.variants)
