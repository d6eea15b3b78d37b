"""Turns errors into gRPC statuses: a code, a message for people, and details for programs."""

import grpc
import structlog
from google.protobuf import any_pb2, duration_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2

from allocator import errors
from server.logs import LogThrottle
from storage.postgres import pool
from storage.redis import client

log = structlog.get_logger()
_throttle = LogThrottle()
_DOMAIN = "samplit"
_RETRY_SECONDS = 1
# Statuses travel in HTTP/2 headers, of which clients accept 8 KiB: what a caller sent may be longer.
_MOST_MESSAGE = 512
_MOST_VIOLATIONS = 8
_MOST_FIELD = 100
_MOST_DESCRIPTION = 240

_CODES: dict[type[errors.SamplitError], int] = {
    errors.InvalidFieldError: code_pb2.INVALID_ARGUMENT,
    errors.MalformedRequestError: code_pb2.INVALID_ARGUMENT,
    errors.RequestTooLargeError: code_pb2.RESOURCE_EXHAUSTED,
    errors.KeyMissingError: code_pb2.UNAUTHENTICATED,
    errors.KeyInvalidError: code_pb2.UNAUTHENTICATED,
    errors.ScopeMissingError: code_pb2.PERMISSION_DENIED,
    errors.ExperimentNotFoundError: code_pb2.NOT_FOUND,
    errors.AssignmentNotFoundError: code_pb2.NOT_FOUND,
    errors.ExperimentExistsError: code_pb2.ALREADY_EXISTS,
    errors.RequestIdReusedError: code_pb2.ALREADY_EXISTS,
    errors.ExperimentStateError: code_pb2.FAILED_PRECONDITION,
    errors.ConversionBeforeAssignmentError: code_pb2.FAILED_PRECONDITION,
    errors.TooFewAssignmentsError: code_pb2.FAILED_PRECONDITION,
    errors.ClusterModelUnreadableError: code_pb2.FAILED_PRECONDITION,
    errors.ClusterModelNotFoundError: code_pb2.NOT_FOUND,
    errors.ClusterNotFoundError: code_pb2.NOT_FOUND,
    errors.ClusterNameTakenError: code_pb2.ALREADY_EXISTS,
    errors.AlertNotFoundError: code_pb2.NOT_FOUND,
    errors.RecommendationNotFoundError: code_pb2.NOT_FOUND,
    errors.RecommendationStaleError: code_pb2.FAILED_PRECONDITION,
    errors.StaleEtagError: code_pb2.ABORTED,
    errors.StoreUnavailableError: code_pb2.UNAVAILABLE,
    errors.BacklogFullError: code_pb2.RESOURCE_EXHAUSTED,
    errors.OverloadedError: code_pb2.RESOURCE_EXHAUSTED,
    errors.SamplitError: code_pb2.INTERNAL,
}
_GRPC_CODES: dict[int, grpc.StatusCode] = {code.value[0]: code for code in grpc.StatusCode}
OK = status_pb2.Status()


def as_samplit_error(error: Exception) -> errors.SamplitError | None:
    """Return the domain error that an error is or means, or None for a defect. Texts of drivers are not passed on."""
    if isinstance(error, errors.SamplitError):
        return error
    if isinstance(error, client.UNREACHABLE):
        return errors.StoreUnavailableError("Redis does not answer; try again")
    if isinstance(error, client.EmptyError):
        return errors.StoreUnavailableError("Redis is being refilled; try again")
    if isinstance(error, client.OutOfMemoryError):
        return errors.BacklogFullError("Redis is out of memory; try again later")
    if isinstance(error, pool.UNREACHABLE):
        return errors.StoreUnavailableError("PostgreSQL does not answer; try again")
    if isinstance(error, pool.CONFLICT):
        return errors.StoreUnavailableError("the change met another one; try again")
    return None


def to_status(error: errors.SamplitError) -> status_pb2.Status:
    """Return the status of an error, with ErrorInfo, and BadRequest and RetryInfo where they apply."""
    details = [error_details_pb2.ErrorInfo(reason=error.reason, domain=_DOMAIN, metadata=error.metadata)]
    status = status_pb2.Status(
        code=_CODES[type(error)], message=error.message[:_MOST_MESSAGE], details=[_pack(d) for d in details]
    )
    if isinstance(error, errors.InvalidFieldError):
        violations = [
            error_details_pb2.BadRequest.FieldViolation(
                field=v.field[:_MOST_FIELD], description=v.description[:_MOST_DESCRIPTION]
            )
            for v in error.violations[:_MOST_VIOLATIONS]
        ]
        status.details.append(_pack(error_details_pb2.BadRequest(field_violations=violations)))
    if isinstance(error, errors.StoreUnavailableError | errors.BacklogFullError | errors.OverloadedError):
        delay = duration_pb2.Duration(seconds=_RETRY_SECONDS)
        status.details.append(_pack(error_details_pb2.RetryInfo(retry_delay=delay)))
    return status


def status_of_failure(error: Exception, method: str) -> status_pb2.Status:
    """Return the status of a failed call. An error that is not the caller's is logged, at most once a second."""
    known = as_samplit_error(error)
    if known is not error and (calls := _throttle.admit((method, type(error)))):
        if known is None:
            log.error("calls failed", method=method, calls=calls, exc_info=error)
        else:
            log.warning("store unavailable", method=method, calls=calls, error=str(error))
    return to_status(known or errors.SamplitError("the server failed; its log says why"))


def grpc_code(status: status_pb2.Status) -> grpc.StatusCode:
    """Return grpcio's name of a status code."""
    return _GRPC_CODES[status.code]


def _pack(
    message: "error_details_pb2.ErrorInfo | error_details_pb2.BadRequest | error_details_pb2.RetryInfo",
) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(message)
    return packed
