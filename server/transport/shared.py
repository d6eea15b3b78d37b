"""What all connections of a server share: methods, limits, and the counts that the limits are about."""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from server.transport.options import Options
from server.transport.rpc.call import Call
from server.transport.rpc.metadata import Metadata
from server.transport.rpc.methods import Method
from server.transport.rpc.request import Authorise, Peer
from server.transport.rpc.status import Code, StatusError

_log = logging.getLogger("transport")
_EXPIRY_SECONDS = 0.02  # so late a deadline may be noticed
Report = Callable[[str, Exception], object]  # takes a path and a handler's defect


@dataclass
class Statistics:
    """Counts since the start, of what is not usual."""

    connections: int = 0
    refused_connections: int = 0
    faults: int = 0  # connections that ended because the peer broke the protocol or a limit
    overloads: int = 0  # calls that were refused because too many waited
    late: int = 0  # calls whose deadline passed before they were answered
    failures: int = 0  # calls whose handlers raised what is not a StatusError


def log_failure(path: str, error: Exception) -> None:
    """Log a handler's defect."""
    _log.error("a handler of %s failed", path, exc_info=error)


class Shared:
    """State of a server that its connections use."""

    def __init__(
        self, methods: Mapping[str, Method], options: Options, authorise: Authorise | None, report: Report
    ) -> None:
        self.methods = methods
        self.options = options
        self.authorise = None if authorise is None else self._contained(authorise)
        self.statistics = Statistics()
        self.waiting = 0
        self.buffered = 0
        self.timed: set[Call] = set()  # calls that wait, and have a deadline
        self.clock = time.monotonic
        self.loop = asyncio.get_running_loop()
        self._expiry: asyncio.TimerHandle | None = None
        self._report = report

    def time(self, call: Call) -> None:
        """End the call when its deadline passes: one timer for all, because few calls need it."""
        self.timed.add(call)
        if self._expiry is None:
            self._expiry = self.loop.call_later(_EXPIRY_SECONDS, self._expire)

    def _expire(self) -> None:
        now = self.clock()
        for call in [call for call in self.timed if call.deadline is not None and call.deadline <= now]:
            self.timed.discard(call)
            call.connection.expire(call)
        self._expiry = self.loop.call_later(_EXPIRY_SECONDS, self._expire) if self.timed else None

    def report(self, path: str, error: Exception) -> None:
        """Count and log a handler's defect."""
        self.statistics.failures += 1
        self._report(path, error)

    def _contained(self, authorise: Authorise) -> Authorise:
        def contained(path: str, metadata: Metadata, peer: Peer) -> object:
            try:
                return authorise(path, metadata, peer)
            except StatusError:
                raise
            except Exception as error:
                self.report(path, error)
                raise StatusError(Code.INTERNAL, "the server failed to authorise the call") from None

        return contained
