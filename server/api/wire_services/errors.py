"""The status of a request that is no valid message of its type."""

from allocator.errors import MalformedRequestError
from server.api.status import to_status
from server.api.transport import status_error
from server.transport import StatusError


def malformed(message_type: str) -> StatusError:
    """Return the status of a request that is no `message_type`."""
    return status_error(to_status(MalformedRequestError(f"the request is not a valid {message_type}")))
