"""The use case AllocateUser: from a checked request to a decision that is on record.

A call has three steps, so that a batch makes one round trip: `prepare` decides, the caller records, `finish` answers
with what was there or is there now. Knows nothing of gRPC.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from zoneinfo import ZoneInfo

from allocator.context import Context, Email, Funnel, Push, Web, extract
from allocator.decision import Decision, decide
from allocator.errors import BacklogFullError, ExperimentStateError, InvalidFieldError
from allocator.experiment import Experiment, ExperimentState, Reason, Variant
from allocator.hashing import assignment_id, user_key
from allocator.segments import OTHER, OTHER_NUMBER, segment_key
from server.allocation.bots import BotCounter
from server.catalog import Catalog, Snapshot
from storage.events import AssignmentEvent
from storage.redis.sticky import Lookup, StickyRecord, StreamFull


@dataclass(frozen=True)
class AllocationRequest:
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


@dataclass(frozen=True)
class Allocation:
    """The answer. `assigned_at` and `assignment_id` are empty where nothing is on record."""

    snapshot: Snapshot
    variant: Variant
    segment_key: str
    reason: Reason
    state: AssignmentState
    assignment_id: str = ""
    assigned_at: datetime | None = None


@dataclass(frozen=True)
class Pending:
    """A decision that is not on record yet. Without one, the user is only looked up."""

    snapshot: Snapshot
    key: bytes
    segment_key: str
    lookup: Lookup


class Allocate:
    """Decides by the catalog's snapshots. `identity` keys the hashes of users."""

    def __init__(self, catalog: Catalog, identity: bytes, bots: BotCounter) -> None:
        """Holds no state of its own."""
        self._catalog = catalog
        self._bots = bots
        self._identity = identity

    async def prepare(self, request: AllocationRequest) -> Allocation | Pending:
        """Answer at once where nothing is recorded, else decide.

        Raises:
            ExperimentNotFoundError, ExperimentStateError (DRAFT), InvalidFieldError.
        """
        snapshot = await self._catalog.get(request.experiment_id)
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
        if context.is_bot:
            self._bots.count(experiment.number, request.at.astimezone(ZoneInfo(experiment.time_zone)).date())
            return _unrecorded(snapshot, experiment.control, key, Reason.BOT)
        if experiment.state is ExperimentState.COMPLETED:
            winner = experiment.variant(experiment.winner_variant_id) or experiment.control
            return _unrecorded(snapshot, winner, key, Reason.COMPLETED)
        user = user_key(self._identity, request.user_identifier)
        if experiment.state is ExperimentState.PAUSED:
            return Pending(snapshot, user, key, Lookup(experiment.number, user, None))
        segment = await snapshot.segments.number(key, experiment.segmentation.max_segments)
        key = OTHER if segment == OTHER_NUMBER else key
        decision = decide(experiment, snapshot.tables, user, segment)
        event = _event(snapshot, user, segment, key, decision, context, request.at)
        return Pending(snapshot, user, key, Lookup(experiment.number, user, event))

    async def finish(self, pending: Pending, found: StickyRecord | StreamFull | None) -> Allocation:
        """The answer, given what the record says. Raises BacklogFullError."""
        event = pending.lookup.event
        if isinstance(found, StreamFull):
            raise BacklogFullError("the event stream is full, since it is not drained; try again later")
        if isinstance(found, StickyRecord):
            return await self._existing(pending, found)
        if event is None:
            return _unrecorded(
                pending.snapshot, pending.snapshot.experiment.control, pending.segment_key, Reason.PAUSED
            )
        return Allocation(
            pending.snapshot,
            pending.snapshot.variants[event.variant],
            pending.segment_key,
            Reason(event.reason),
            AssignmentState.NEW,
            self._assignment_id(pending),
            datetime.fromtimestamp(event.assigned_at, UTC),
        )

    async def _existing(self, pending: Pending, record: StickyRecord) -> Allocation:
        snapshot = pending.snapshot
        if record.variant not in snapshot.variants:  # added since this process looked
            await self._catalog.refresh(snapshot.experiment.experiment_id)
            snapshot = await self._catalog.get(snapshot.experiment.experiment_id)
        variant = snapshot.variants[record.variant]
        registry = await self._catalog.registry(snapshot.experiment.number, record.segmentation_version)
        return Allocation(
            snapshot,
            snapshot.experiment.control if variant.retired else variant,
            await registry.key(record.segment),
            Reason.VARIANT_RETIRED if variant.retired else record.reason,
            AssignmentState.EXISTING,
            self._assignment_id(pending),
            datetime.fromtimestamp(record.assigned_at, UTC),
        )

    def _assignment_id(self, pending: Pending) -> str:
        return assignment_id(self._identity, pending.lookup.experiment, pending.key)


def _unrecorded(snapshot: Snapshot, variant: Variant, key: str, reason: Reason) -> Allocation:
    return Allocation(snapshot, variant, key, reason, AssignmentState.NONE)


def _variant_ids(experiment: Experiment) -> str:
    return ", ".join(variant.variant_id for variant in experiment.variants)


def _event(
    snapshot: Snapshot, user: bytes, segment: int, key: str, decision: Decision, context: Context, at: datetime
) -> AssignmentEvent:
    return AssignmentEvent(
        experiment=snapshot.experiment.number,
        user_key=user,
        variant=decision.variant,
        segmentation_version=snapshot.experiment.segmentation_version,
        segment=segment,
        segment_key=key,
        reason=decision.reason,
        group=decision.group,
        posterior_version=snapshot.tables.version,
        revision=snapshot.experiment.revision,
        propensity=decision.propensity,
        marginal=decision.marginal,
        q_segment=decision.q_segment,
        q_global=decision.q_global,
        context=dict(context.dimensions),
        assigned_at=int(at.timestamp()),
    )
