"""What the headers of a call say: which method, for whom, until when. Read once for headers that come again."""

import time
from collections.abc import Awaitable, Callable, Mapping
from inspect import isawaitable
from typing import Any, NamedTuple

from server.transport.http2.frames import ErrorCode, PeerError
from server.transport.http2.header_decoder import Block, HeaderDecoder, HeaderError
from server.transport.rpc import answers, fields, messages
from server.transport.rpc.answers import Refusal
from server.transport.rpc.metadata import Metadata
from server.transport.rpc.methods import Method, Start
from server.transport.rpc.status import Code, StatusError

_MOST_KEPT_BYTES = 128 * 1024  # of what a connection remembers of headers, in each of its two memories
_ENTRY_BYTES = 400  # what an entry costs beside its fields
_REFUSED_SECONDS = 1.0  # so long a refusal stands before the hook is asked again


class Peer(NamedTuple):
    """The client's end of a connection. `certificate` is what `ssl` says of a verified client certificate."""

    address: str
    certificate: Mapping[str, Any] | None = None


# Returns whatever the handler will find as `call.caller`, or an awaitable of it where that takes I/O.
# Raises StatusError, or lets the awaitable raise it, to refuse the call.
Authorise = Callable[[str, Metadata, Peer], object | Awaitable[object]]


class Route:
    """The part of a request that calls share although some of their fields vary."""

    __slots__ = (
        "caller",
        "content_length",
        "encoding",
        "expires",
        "method",
        "path",
        "refusal",
        "start",
        "undecided",
        "zips",
    )

    def __init__(self, path: str, method: Method | None, head: fields.Head) -> None:
        self.path = path
        self.method = method
        self.encoding = head.encoding
        self.content_length = head.content_length
        self.zips = head.encoding == messages.GZIP and fields.accepts(head.accepted_encodings, messages.GZIP)
        self.caller: object = None
        self.undecided: Awaitable[object] | None = None
        self.refusal: Refusal | None = None
        self.expires = float("inf")
        self.start: Start | None = None  # to be called with the message as it came, by calls that need no other care

    def is_expired(self) -> bool:
        """Return whether the hook must be asked again, since it refused a while ago."""
        return self.refusal is not None and self.expires <= time.monotonic()

    def decide(self) -> None:
        """Set `start`, once everything else is known."""
        method = self.method
        if method is None or self.refusal or self.undecided or self.zips or self.content_length is not None:
            return
        if not method.streams_requests:
            self.start = method.start


class Request:
    """What the headers of a call say. Calls with the same headers share it, so it is never changed."""

    __slots__ = ("_metadata", "block", "route", "start", "timeout")

    def __init__(self, block: Block, route: Route, timeout: float | None) -> None:
        self.route = route
        self.start = route.start
        self.timeout = timeout
        self.block = block
        self._metadata: Metadata | None = None

    @property
    def metadata(self) -> Metadata:
        """What the client sent beside the fields of the protocol itself."""
        if self._metadata is None:
            self._metadata = Metadata(self.block.fields())
        return self._metadata


class _Template(NamedTuple):
    """A request, and what other requests of the same shape are checked by."""

    request: Request
    varying: list[bytes]
    room: int  # bytes that the varying values may have


class RequestReader:
    """Reads the headers of one connection's calls.

    `known` leads from the bytes of a block to its request, as long as the decoder's table stays as it is. Only requests
    that are accepted, and need no special care, are there.
    """

    def __init__(
        self,
        decoder: HeaderDecoder,
        methods: Mapping[str, Method],
        authorise: Authorise | None,
        authorise_by: frozenset[bytes],
        peer: Peer,
        list_limit: int,
    ) -> None:
        """`authorise` sees the metadata that `authorise_by` names, and no other.

        Lists of fields may have `list_limit` bytes, as RFC 9113 §6.5.2 counts.
        """
        self._list_limit = list_limit
        self.known: dict[bytes, Request] = {}
        self._refused: dict[bytes, Request] = {}
        self._templates: dict[tuple[Any, ...], _Template] = {}
        self._known_bytes = self._template_bytes = 0
        self._decoder = decoder
        self._version = decoder.table.version
        self._methods = methods
        self._authorise = authorise
        self._authorise_by = authorise_by
        self._decisive = fields.DECISIVE | authorise_by
        self._peer = peer

    def forget(self) -> None:
        """Ask the hook again for whatever comes next."""
        self._clear_blocks()
        self._templates.clear()
        self._template_bytes = 0

    def read(self, data: bytes) -> Request:
        """Return the request of a block. Raises StreamError if it is malformed, PeerError if tables diverge."""
        if self._refused:
            refused = self._refused.get(data)
            if refused is not None and not refused.route.is_expired():
                return refused
        version = self._decoder.table.version
        request = self._request(self.decode(data))
        if not request.block.values and self._decoder.table.version == version:
            self._keep(data, request)
        return request

    def decode(self, data: bytes) -> Block:
        """Return the fields of a block, which need not begin a request. Raises PeerError."""
        try:
            block = self._decoder.decode(data)
        except HeaderError as error:
            raise PeerError(ErrorCode.COMPRESSION_ERROR, str(error)) from None
        if self._version != self._decoder.table.version:  # the bytes of a block mean something else now
            self._version = self._decoder.table.version
            if self._known_bytes:
                self._clear_blocks()
        return block

    def _keep(self, data: bytes, request: Request) -> None:
        if request.route.refusal is not None:
            memory = self._refused
        elif request.start is not None:
            memory = self.known
        else:
            return
        size = request.block.size() + _ENTRY_BYTES
        if self._known_bytes + size > _MOST_KEPT_BYTES:
            self._clear_blocks()
        self._known_bytes += size
        memory[data] = request

    def _clear_blocks(self) -> None:
        self.known.clear()
        self._refused.clear()
        self._known_bytes = 0

    def _request(self, block: Block) -> Request:
        template = self._templates.get(block.shape)
        if template is not None and (template.request.start is not None or not template.request.route.is_expired()):
            if not block.values:
                return template.request
            varied = _vary(template, block)
            if varied is not None:
                return varied
        size = block.size()
        if size > self._list_limit:
            return _too_large()
        request = self._build(block)
        varying = block.names()
        if request.route.undecided is None and self._decisive.isdisjoint(varying):
            size += _ENTRY_BYTES
            if self._template_bytes + size > _MOST_KEPT_BYTES:
                self._templates.clear()
                self._template_bytes = 0
            self._template_bytes += size
            room = self._list_limit - size + sum(map(len, block.values))
            self._templates[block.shape] = _Template(request, varying, room)
        return request

    def _build(self, block: Block) -> Request:
        all_fields = block.fields()
        head = fields.read_head(all_fields)
        path = head.path.decode("latin-1")
        route = Route(path, self._methods.get(path), head)
        timeout = None if head.timeout is None else fields.read_timeout(head.timeout)
        try:
            if not fields.is_grpc(head.content_type):
                route.refusal = answers.NOT_GRPC
            elif head.method != b"POST":
                route.refusal = answers.NOT_POST
            else:
                _check(route, head, timeout)
                self._ask(route, Metadata(field for field in all_fields if field[0] in self._authorise_by))
        except StatusError as error:
            route.refusal = answers.refusal(error)
        route.decide()
        return Request(block, route, timeout)

    def _ask(self, route: Route, metadata: Metadata) -> None:
        if self._authorise is None:
            return
        try:
            decision = self._authorise(route.path, metadata, self._peer)
        except StatusError:
            route.expires = time.monotonic() + _REFUSED_SECONDS
            raise
        if isawaitable(decision):
            route.undecided = decision
        else:
            route.caller = decision


def _check(route: Route, head: fields.Head, timeout: float | None) -> None:
    if route.method is None:
        raise StatusError(Code.UNIMPLEMENTED, "this server has no such method")
    if head.encoding not in (None, messages.IDENTITY, messages.GZIP):
        accepted = messages.ACCEPTED.decode()
        raise StatusError(Code.UNIMPLEMENTED, f"grpc-encoding is none of those that this server takes: {accepted}")
    if head.timeout is not None and timeout is None:
        raise StatusError(Code.INTERNAL, "grpc-timeout is not up to 8 digits and a unit")


def _vary(template: _Template, block: Block) -> Request | None:
    """Return the request of another block of the same shape, or nothing if it must be built from all its fields."""
    request = template.request
    timeout = request.timeout
    room = template.room
    for name, value in zip(template.varying, block.values, strict=True):
        room -= len(value)
        if name == fields.TIMEOUT:
            timeout = fields.read_timeout(value)
            if timeout is None:
                return None
        else:
            fields.check_value(value)
    return Request(block, request.route, timeout) if room >= 0 else None


def _too_large() -> Request:
    head = fields.Head(b"", b"", b"", None, None, b"", None)
    route = Route("", None, head)
    route.refusal = answers.HEADERS_TOO_LARGE
    return Request(Block((), []), route, None)
