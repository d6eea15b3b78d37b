"""A call under way, as its handler sees it."""

import asyncio
import time
from asyncio import Future, Task
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any, Protocol

from server.transport.http2.stream import Stream
from server.transport.rpc.messages import MessageReader
from server.transport.rpc.metadata import Metadata, Pairs, to_fields
from server.transport.rpc.methods import Start, contain
from server.transport.rpc.request import Peer, Request
from server.transport.rpc.status import Code, StatusError


class Carrier(Protocol):
    """What a call needs of its connection."""

    @property
    def peer(self) -> Peer:
        """The client's end of the connection."""

    def answer(self, call: "Call", message: bytes) -> None:
        """Send the only message of an answer, and end the call."""

    def answer_error(self, call: "Call", error: StatusError) -> None:
        """End the call with a status."""

    async def send(self, call: "Call", message: bytes) -> None:
        """Send one of several messages, and wait until there is room for more."""

    def finish(self, call: "Call") -> None:
        """End the call with the status OK."""

    def was_read(self, call: "Call", size: int) -> None:
        """Let the client send as many bytes as a handler has read."""

    def report(self, path: str, error: Exception) -> None:
        """Log a handler's defect."""

    def expire(self, call: "Call") -> None:
        """End a call whose deadline has passed."""


class Call(Stream):
    """One call. Handlers use what has no underscore here; `answer…` and `cancel` belong to the connection.

    Like that of a stream, its state stands in the class until it changes: most calls are answered at once.
    """

    deadline: float | None = None  # in seconds of `time.monotonic`
    is_active = True  # false once the call is answered or cancelled: nobody waits for it
    compresses = True  # whether a large answer may be compressed, if the client compressed its request

    is_complete = False  # the client sent all it has to send
    is_counted = False  # among the calls that wait
    has_begun = False  # the answer's headers were sent
    reader: MessageReader | None = None
    message: bytes | None = None  # the only one of a call, until the client says that it was the last
    body_size = 0
    unread = 0  # bytes of messages that the handler has not read
    buffered = 0  # bytes that count as kept for the call
    is_plain = True  # the answer has no metadata of its own
    incomplete_since: float | None = None  # when the sweep first saw that a message has not come
    _task: "Task[None] | None" = None
    _on_cancel: Callable[[], object] | None = None
    _inbox: "deque[bytes] | None" = None
    _mail: "Future[None] | None" = None
    _decision: "Future[object] | None" = None
    _caller: object = None
    initial_metadata: Pairs = ()
    trailing_metadata: Pairs = ()

    def __init__(self, connection: Carrier, stream_id: int, request: Request) -> None:
        self.stream_id = stream_id
        self.request = request
        self.connection = connection
        self.start = request.start

    @property
    def path(self) -> str:
        """The method: "/package.Service/Method"."""
        return self.request.route.path

    @property
    def metadata(self) -> Metadata:
        """What the client sent with the call."""
        return self.request.metadata

    @property
    def caller(self) -> Any:
        """What the authorisation hook returned for the call."""
        return self.request.route.caller if self._caller is None else self._caller

    @property
    def peer(self) -> Peer:
        """The client's end of the connection."""
        return self.connection.peer

    def time_left(self) -> float | None:
        """Return the seconds until the deadline, or nothing if the call has none."""
        return None if self.deadline is None else self.deadline - time.monotonic()

    def send_with_headers(self, metadata: Pairs) -> None:
        """Send metadata at the begin of the answer. Raises ValueError if it may not be sent."""
        to_fields(metadata)
        self.is_plain = False
        self.initial_metadata = metadata

    def send_with_status(self, metadata: Pairs) -> None:
        """Send metadata at the end of the answer. Raises ValueError if it may not be sent."""
        to_fields(metadata)
        self.is_plain = False
        self.trailing_metadata = metadata

    def on_cancel(self, notify: Callable[[], object]) -> None:
        """Call `notify` if the client, its connection or the deadline ends the call before it is answered."""
        self._on_cancel = notify

    def reply(self, message: bytes) -> None:
        """Answer a call of one message. Nothing happens if the call is not active any more."""
        if self.is_active:
            self.connection.answer(self, message)

    def fail(self, code: int, message: str = "", details: bytes = b"") -> None:
        """End the call with a status. Nothing happens if the call is not active any more."""
        self.fail_with(StatusError(code, message, details))

    def fail_with(self, error: Exception) -> None:
        """End the call with a StatusError; with INTERNAL, and a report in the log, for any other exception."""
        if not isinstance(error, StatusError):
            self.connection.report(self.path, error)
            error = StatusError(Code.INTERNAL, "the server failed to answer the call")
        if self.is_active:
            self.connection.answer_error(self, error)

    async def send(self, message: bytes) -> None:
        """Send one of several messages, and wait until there is room for more."""
        if self.is_active:
            await self.connection.send(self, message)

    def finish(self) -> None:
        """End a call of several messages with the status OK."""
        if self.is_active:
            self.connection.finish(self)

    async def messages(self) -> AsyncIterator[bytes]:
        """Yield the client's messages, until it has sent its last."""
        inbox = self._inbox = deque() if self._inbox is None else self._inbox
        while True:
            while inbox:
                message = inbox.popleft()
                self.connection.was_read(self, len(message))
                yield message
            if self.is_complete or not self.is_active:
                return
            self._mail = asyncio.get_running_loop().create_future()
            await self._mail

    def run(self, run: "Callable[[Call, bytes], Coroutine[Any, Any, None]]", message: bytes) -> None:
        """Run a handler as a task that is cancelled with the call."""
        self._task = asyncio.get_running_loop().create_task(contain(self, run, message))

    # For the connection

    def deliver(self, message: bytes) -> None:
        """Hand a message to whom reads `messages`."""
        if self._inbox is None:
            self._inbox = deque()
        self._inbox.append(message)
        self.wake()

    def wake(self) -> None:
        """Let whom reads `messages` look again."""
        if self._mail is not None and not self._mail.done():
            self._mail.set_result(None)

    def decide(self, undecided: Awaitable[object]) -> None:
        """Begin to find out who calls, where the hook needs time for that."""
        self._decision = asyncio.ensure_future(undecided)
        self._decision.add_done_callback(_retrieve)

    def begin(self, start: Start, message: bytes) -> bytes | None:
        """Hand a message to the handler: at once, or once it is known who calls."""
        if self._decision is None:
            return start(self, message)
        decision = self._decision

        async def begin_decided(call: Call, message: bytes) -> None:
            call._caller = await decision
            answer = start(call, message)
            if answer is not None:
                call.reply(answer)

        self.run(begin_decided, message)
        return None

    def cancel(self) -> None:
        """Tell the handler that nobody waits for an answer."""
        self.is_active = False
        if self._task is not None and not self._task.done():
            self._task.cancel()
        if self._decision is not None:
            self._decision.cancel()
        if self._on_cancel is not None:
            notify, self._on_cancel = self._on_cancel, None
            try:
                notify()
            except Exception as error:
                self.connection.report(self.path, error)

    def abandon(self) -> None:
        """End the call because its task was cancelled, by the call itself or from outside."""
        if self.is_active:
            self.fail(Code.UNAVAILABLE, "the server stopped working on the call")


def _retrieve(decision: "Future[object]") -> None:
    """Look at how a decision ended, so that asyncio does not complain where its call ended before."""
    if not decision.cancelled():
        decision.exception()
