"""What the API adds to the transport of our own: statuses with details, and authentication before a message is read."""

from collections.abc import Awaitable, Mapping

from google.rpc import status_pb2

from allocator.errors import MalformedRequestError, OverloadedError, RequestTooLargeError, SamplitError
from server.api.authentication import Authenticator
from server.api.status import status_of_failure, to_status
from server.transport import Code, Metadata, Peer, StatusError, TooLargeError
from storage.postgres.operations.api_keys import ActiveKey


def status_error(status: status_pb2.Status) -> StatusError:
    """Return a status as the transport sends it, with its details."""
    return StatusError(status.code, status.message, status.SerializeToString())


def describe(error: StatusError) -> StatusError:
    """Return a status that the transport gave to a call, with a reason for programs."""
    known: SamplitError
    if isinstance(error, TooLargeError):
        known = RequestTooLargeError(f"{error.message}: send less at a time")
    elif error.code == Code.INTERNAL:  # the body is not a message with its prefix, or not gzip
        known = MalformedRequestError(error.message)
    elif error.code == Code.RESOURCE_EXHAUSTED:
        known = OverloadedError(error.message)
    else:
        return error
    return status_error(to_status(known))


class Authorisation:
    """Checks the key of every call, once for a block of headers. Health and reflection need no key."""

    def __init__(self, authenticator: Authenticator, scopes: Mapping[str, str]) -> None:
        """`scopes` has the scope that a service's methods need, by the full name of the service."""
        self._authenticator = authenticator
        self._scopes = scopes

    def __call__(self, path: str, metadata: Metadata, _: Peer) -> ActiveKey | Awaitable[ActiveKey] | None:
        """Return the key, or an awaitable of it while it is not known. Raises StatusError."""
        scope = self._scopes.get(path[1:].rpartition("/")[0])
        if scope is None:
            return None
        value = metadata.get("authorization")
        authorization = value if isinstance(value, str) else None
        try:
            key = self._authenticator.authenticate_now(authorization, scope)
        except Exception as error:
            raise status_error(status_of_failure(error, path)) from None
        return self._authenticate(path, authorization, scope) if key is None else key

    async def _authenticate(self, path: str, authorization: str | None, scope: str) -> ActiveKey:
        try:
            return await self._authenticator.authenticate(authorization, scope)
        except Exception as error:
            raise status_error(status_of_failure(error, path)) from None
