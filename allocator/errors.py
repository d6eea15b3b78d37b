"""Everything that can be wrong with what a caller asks, as plain exceptions.

Raised by any room; the server turns each into a gRPC status. `reason` is the name in samplit.errors.v1.ErrorReason.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True)
class Violation:
    """One field at fault: its path in the request, and what it would accept."""

    field: str
    description: str


class SamplitError(Exception):
    """The base of all: a message for people, and metadata for programs."""

    reason: ClassVar[str] = "INTERNAL"

    def __init__(self, message: str, **metadata: str) -> None:
        """`metadata` goes into ErrorInfo; never put a secret there."""
        super().__init__(message)
        self.message = message
        self.metadata = metadata


class InvalidFieldError(SamplitError):
    """One or more fields of the request are not acceptable."""

    reason = "INVALID_FIELD"

    def __init__(self, violations: Sequence[Violation]) -> None:
        """The message joins all violations, so that it suffices without the details."""
        super().__init__("; ".join(f"{v.field}: {v.description}" for v in violations))
        self.violations = tuple(violations)

    @classmethod
    def of(cls, field: str, description: str) -> "InvalidFieldError":
        """The usual case: one field."""
        return cls([Violation(field, description)])


class KeyMissingError(SamplitError):
    """No API key came with the call."""

    reason = "KEY_MISSING"


class KeyInvalidError(SamplitError):
    """The API key is unknown or revoked."""

    reason = "KEY_INVALID"


class ScopeMissingError(SamplitError):
    """The API key is good, but not for this call."""

    reason = "SCOPE_MISSING"


class ExperimentNotFoundError(SamplitError):
    """No such experiment."""

    reason = "EXPERIMENT_NOT_FOUND"

    def __init__(self, experiment_id: str) -> None:
        """The id as it was asked for."""
        super().__init__(f"there is no experiment {experiment_id!r}", experiment_id=experiment_id)


class ExperimentExistsError(SamplitError):
    """The experiment id is taken."""

    reason = "EXPERIMENT_EXISTS"

    def __init__(self, experiment_id: str) -> None:
        """The id as it was asked for."""
        super().__init__(f"experiment {experiment_id!r} exists already", experiment_id=experiment_id)


class ExperimentStateError(SamplitError):
    """The experiment's state does not allow the call."""

    reason = "EXPERIMENT_STATE"


class StaleEtagError(SamplitError):
    """The experiment was changed since the caller read it."""

    reason = "STALE_ETAG"


class RequestIdReusedError(SamplitError):
    """The request_id was used by a different request."""

    reason = "REQUEST_ID_REUSED"


class AssignmentNotFoundError(SamplitError):
    """No assignment of this user is stored."""

    reason = "ASSIGNMENT_NOT_FOUND"


class ConversionBeforeAssignmentError(SamplitError):
    """The conversion is dated before the assignment it would be credited to."""

    reason = "CONVERSION_BEFORE_ASSIGNMENT"


class StoreUnavailableError(SamplitError):
    """Redis or Postgres does not answer; worth a retry."""

    reason = "STORE_UNAVAILABLE"


class OverloadedError(SamplitError):
    """More is asked at once than can be answered; worth a retry a little later."""

    reason = "OVERLOADED"


class BacklogFullError(SamplitError):
    """The event streams are full; worth a retry once they are drained."""

    reason = "BACKLOG_FULL"


class TooFewAssignmentsError(SamplitError):
    """There are not enough assignments to learn clusters from."""

    reason = "TOO_FEW_ASSIGNMENTS"


class ClusterModelNotFoundError(SamplitError):
    """The experiment has no such cluster model."""

    reason = "CLUSTER_MODEL_NOT_FOUND"


class ClusterModelUnreadableError(SamplitError):
    """The cluster model is damaged, or was made with another key."""

    reason = "CLUSTER_MODEL_UNREADABLE"


class ClusterNotFoundError(SamplitError):
    """The experiment has no such cluster."""

    reason = "CLUSTER_NOT_FOUND"


class ClusterNameTakenError(SamplitError):
    """Another cluster of the experiment has the name."""

    reason = "CLUSTER_NAME_TAKEN"


class AlertNotFoundError(SamplitError):
    """There is no alert of this id."""

    reason = "ALERT_NOT_FOUND"


class RecommendationNotFoundError(SamplitError):
    """There is no recommendation of this id."""

    reason = "RECOMMENDATION_NOT_FOUND"


class RecommendationStaleError(SamplitError):
    """The recommendation was decided already, or what it was about has changed."""

    reason = "RECOMMENDATION_STALE"
