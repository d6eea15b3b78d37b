"""The reflection service, grpc.reflection.v1 and v1alpha (the document "gRPC server reflection protocol").

Both versions have the same messages but for the package's name, so those of v1alpha serve for both.
"""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence

from google.protobuf.descriptor import FileDescriptor
from google.protobuf.descriptor_pool import Default, DescriptorPool
from google.protobuf.message import DecodeError
from grpc_reflection.v1alpha import reflection_pb2
from samplit.errors.v1 import error_reason_pb2 as _error_reasons  # noqa: F401 (so that the pool has ErrorReason)

from server.api.limits import MOST_BYTES_WITHOUT_KEY
from server.api.wire_services.errors import malformed
from server.transport import Code, Method, StatusError, bidirectional

NAMES = ("grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection")
METHOD = "ServerReflectionInfo"


class Reflection:
    """Answers what services there are, and how their messages are built, from the descriptors of a pool."""

    def __init__(self, services: Sequence[str], pool: DescriptorPool | None = None) -> None:
        """`services` are the full names that are listed, in that order, before those of reflection itself."""
        self._services = (*services, *NAMES)
        self._pool = pool or Default()
        self._answers: Mapping[str, Callable[[reflection_pb2.ServerReflectionRequest], object]] = {
            "file_by_filename": self._by_filename,
            "file_containing_symbol": self._by_symbol,
            "file_containing_extension": self._by_extension,
            "all_extension_numbers_of_type": self._extension_numbers,
            "list_services": self._list,
        }

    def methods(self) -> Mapping[str, Method]:
        """Return both versions' method by path."""
        method = bidirectional(
            lambda _, messages: self.converse(messages), ends_at_drain=True, message_limit=MOST_BYTES_WITHOUT_KEY
        )
        return {f"/{name}/{METHOD}": method for name in NAMES}

    async def converse(self, messages: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """Answer each request in turn. Raises StatusError."""
        async for message in messages:
            try:
                request = reflection_pb2.ServerReflectionRequest.FromString(message)
            except DecodeError:
                raise malformed("ServerReflectionRequest") from None
            yield self._answer(request)

    def _answer(self, request: reflection_pb2.ServerReflectionRequest) -> bytes:
        response = reflection_pb2.ServerReflectionResponse(valid_host=request.host, original_request=request)
        answer = self._answers.get(request.WhichOneof("message_request") or "")
        try:
            if answer is None:
                raise StatusError(Code.INVALID_ARGUMENT, "the request asks for nothing that this server knows")
            response.MergeFrom(answer(request))
        except KeyError:
            _fail(response, Code.NOT_FOUND, "the server has no such name")
        except StatusError as error:
            _fail(response, error.code, error.message)
        serialised: bytes = response.SerializeToString()
        return serialised

    def _list(self, _: reflection_pb2.ServerReflectionRequest) -> reflection_pb2.ServerReflectionResponse:
        services = [reflection_pb2.ServiceResponse(name=name) for name in self._services]
        listed = reflection_pb2.ListServiceResponse(service=services)
        return reflection_pb2.ServerReflectionResponse(list_services_response=listed)

    def _by_filename(self, request: reflection_pb2.ServerReflectionRequest) -> reflection_pb2.ServerReflectionResponse:
        return _files(self._pool.FindFileByName(request.file_by_filename))

    def _by_symbol(self, request: reflection_pb2.ServerReflectionRequest) -> reflection_pb2.ServerReflectionResponse:
        return _files(self._pool.FindFileContainingSymbol(request.file_containing_symbol))

    def _by_extension(self, request: reflection_pb2.ServerReflectionRequest) -> reflection_pb2.ServerReflectionResponse:
        wanted = request.file_containing_extension
        message = self._pool.FindMessageTypeByName(wanted.containing_type)
        extension = self._pool.FindExtensionByNumber(message, wanted.extension_number)
        return _files(self._pool.FindFileContainingSymbol(extension.full_name))

    def _extension_numbers(
        self, request: reflection_pb2.ServerReflectionRequest
    ) -> reflection_pb2.ServerReflectionResponse:
        message = self._pool.FindMessageTypeByName(request.all_extension_numbers_of_type)
        numbers = sorted(extension.number for extension in self._pool.FindAllExtensions(message))
        found = reflection_pb2.ExtensionNumberResponse(base_type_name=message.full_name, extension_number=numbers)
        return reflection_pb2.ServerReflectionResponse(all_extension_numbers_response=found)


def _files(file: FileDescriptor) -> reflection_pb2.ServerReflectionResponse:
    """Return a file and all that it imports, each once, so that a client needs to ask no more."""
    found: dict[str, FileDescriptor] = {}
    waiting = [file]
    while waiting:
        file = waiting.pop()
        if file.name not in found:
            found[file.name] = file
            waiting += file.dependencies
    files = reflection_pb2.FileDescriptorResponse(file_descriptor_proto=[f.serialized_pb for f in found.values()])
    return reflection_pb2.ServerReflectionResponse(file_descriptor_response=files)


def _fail(response: reflection_pb2.ServerReflectionResponse, code: int, message: str) -> None:
    response.error_response.error_code = code
    response.error_response.error_message = message
