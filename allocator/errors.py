"""The errors that callers are told about, as plain exceptions.

Any room may raise them, and the server turns each into a gRPC status. `reason` is the name in
samplit.errors.v1.ErrorReason. Defects of our own are in `allocator.defects`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True)
class Violation:
    """One field that is not acceptable: its path in the request, and what would be accepted."""

    field: str
    description: str


class SamplitError(Exception):
    """The base of these errors: a message for people, and metadata for programs."""

    reason: ClassVar[str] = "INTERNAL"

    def __init__(self, message: str, **metadata: str) -> None:
        """Set the message and the metadata. The metadata goes into ErrorInfo, so never put a secret there."""
        super().__init__(message)
        self.message = message
        self.metadata = metadata


class InvalidFieldError(SamplitError):
    """One or more fields of the request are not acceptable.

    Raise it only for what the caller sent; a defect of our own raises a DefectError.
    """

    reason = "INVALID_FIELD"

    def __init__(self, violations: Sequence[Violation]) -> None:
        """Join all violations in the message, so that the message says everything that the details say."""
        super().__init__("; ".join(f"{v.field}: {v.description}" for v in violations))
        self.violations = tuple(violations)

    @classmethod
    def of(cls, field: str, description: str) -> "InvalidFieldError":
        """Return the error for a single field."""
        return cls([Violation(field, description)])


class RequestTooLargeError(SamplitError):
    """The request has more bytes than its call allows."""

    reason = "REQUEST_TOO_LARGE"


class KeyMissingError(SamplitError):
    """The call has no API key."""

    reason = "KEY_MISSING"


class KeyInvalidError(SamplitError):
    """The API key is unknown or revoked."""

    reason = "KEY_INVALID"


class ScopeMissingError(SamplitError):
    """The API key is valid, but its scopes do not allow this call."""

    reason = "SCOPE_MISSING"


class ExperimentNotFoundError(SamplitError):
    """There is no experiment with this id."""

    reason = "EXPERIMENT_NOT_FOUND"

    def __init__(self, experiment_id: str) -> None:
        super().__init__(f"there is no experiment {experiment_id!r}", experiment_id=experiment_id)


class ExperimentExistsError(SamplitError):
    """Another experiment has this id."""

    reason = "EXPERIMENT_EXISTS"

    def __init__(self, experiment_id: str) -> None:
        super().__init__(f"experiment {experiment_id!r} exists already", experiment_id=experiment_id)


class ExperimentStateError(SamplitError):
    """The experiment's state does not allow the call."""

    reason = "EXPERIMENT_STATE"


class StaleEtagError(SamplitError):
    """The experiment has been changed since the caller read it."""

    reason = "STALE_ETAG"


class RequestIdReusedError(SamplitError):
    """Another request has already used this request_id."""

    reason = "REQUEST_ID_REUSED"


class AssignmentNotFoundError(SamplitError):
    """No assignment of this user is stored."""

    reason = "ASSIGNMENT_NOT_FOUND"


class ConversionBeforeAssignmentError(SamplitError):
    """The conversion happened before the assignment that it would be credited to."""

    reason = "CONVERSION_BEFORE_ASSIGNMENT"


class StoreUnavailableError(SamplitError):
    """Redis or Postgres does not answer; the caller may retry."""

    reason = "STORE_UNAVAILABLE"


class MalformedRequestError(SamplitError):
    """The request cannot be parsed."""

    reason = "MALFORMED_REQUEST"


class OverloadedError(SamplitError):
    """There are more calls at once than the server can answer; the caller may retry a little later."""

    reason = "OVERLOADED"


class BacklogFullError(SamplitError):
    """The event streams are full; the caller may retry once they are drained."""

    reason = "BACKLOG_FULL"


class TooFewAssignmentsError(SamplitError):
    """There are not enough assignments to learn clusters from."""

    reason = "TOO_FEW_ASSIGNMENTS"


class ClusterModelNotFoundError(SamplitError):
    """The experiment has no such cluster model."""

    reason = "CLUSTER_MODEL_NOT_FOUND"


class ClusterModelUnreadableError(SamplitError):
    """The cluster model is damaged, or was encrypted with another key."""

    reason = "CLUSTER_MODEL_UNREADABLE"


class ClusterNotFoundError(SamplitError):
    """The experiment has no such cluster."""

    reason = "CLUSTER_NOT_FOUND"


class ClusterNameTakenError(SamplitError):
    """Another cluster of the experiment has this name."""

    reason = "CLUSTER_NAME_TAKEN"


class AlertNotFoundError(SamplitError):
    """There is no alert with this id."""

    reason = "ALERT_NOT_FOUND"


class RecommendationNotFoundError(SamplitError):
    """There is no recommendation with this id."""

    reason = "RECOMMENDATION_NOT_FOUND"


class RecommendationStaleError(SamplitError):
    """The recommendation has been decided already, or the experiment has changed since it was made."""

    reason = "RECOMMENDATION_STALE"
