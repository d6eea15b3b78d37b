"""The health service, grpc.health.v1 (the document "gRPC health checking protocol")."""

import asyncio
from collections.abc import AsyncIterator, Mapping

from google.protobuf.message import DecodeError
from grpc_health.v1 import health_pb2

from server.api.limits import MOST_BYTES_WITHOUT_KEY
from server.api.wire_services.errors import malformed
from server.transport import Code, Method, StatusError, immediate, server_streaming

_Status = health_pb2.HealthCheckResponse.ServingStatus
NAME = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name
OVERALL = ""  # the name that stands for the whole server


class Health:
    """What serves and what does not, by name. Names that were never set are unknown."""

    def __init__(self) -> None:
        self._statuses: dict[str, int] = {OVERALL: health_pb2.HealthCheckResponse.SERVING}
        self._changed: dict[str, asyncio.Event] = {}  # of the names that somebody watches
        self._watchers: dict[str, int] = {}
        self._is_leaving = False

    def methods(self) -> Mapping[str, Method]:
        """Return Check and Watch by path. They are answered however many other calls wait."""
        return {
            f"/{NAME}/Check": immediate(
                lambda _, message: self.check(message), is_limited=False, message_limit=MOST_BYTES_WITHOUT_KEY
            ),
            f"/{NAME}/Watch": server_streaming(
                lambda _, message: self.watch(message),
                is_limited=False,
                ends_at_drain=True,
                message_limit=MOST_BYTES_WITHOUT_KEY,
            ),
        }

    def set(self, service: str, *, serves: bool) -> None:
        """Set whether a service serves, and tell those who watch it."""
        if not self._is_leaving:
            self._set(service, serves=serves)

    def leave(self) -> None:
        """Say for all services, and for good, that they do not serve: the server is about to end."""
        for service in self._statuses:
            self._set(service, serves=False)
        self._is_leaving = True

    def _set(self, service: str, *, serves: bool) -> None:
        response = health_pb2.HealthCheckResponse
        self._statuses[service] = response.SERVING if serves else response.NOT_SERVING
        if service in self._changed:
            self._changed.pop(service).set()

    def check(self, message: bytes) -> bytes:
        """Answer Check. Raises StatusError."""
        status = self._statuses.get(_service(message))
        if status is None:
            raise StatusError(Code.NOT_FOUND, "the server has no service of this name")
        return _response(status)

    async def watch(self, message: bytes) -> AsyncIterator[bytes]:
        """Answer Watch. Raises StatusError."""
        service = _service(message)
        told = None
        while True:
            changed = self._changed.setdefault(service, asyncio.Event())
            status = self._statuses.get(service, health_pb2.HealthCheckResponse.SERVICE_UNKNOWN)
            if status != told:
                told = status
                yield _response(status)
            await changed.wait()


def _service(message: bytes) -> str:
    try:
        service: str = health_pb2.HealthCheckRequest.FromString(message).service
    except DecodeError:
        raise malformed("grpc.health.v1.HealthCheckRequest") from None
    return service


def _response(status: int) -> bytes:
    response: bytes = health_pb2.HealthCheckResponse(status=status).SerializeToString()
    return response
