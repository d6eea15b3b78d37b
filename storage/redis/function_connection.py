"""The connection for the function calls of the hot path. Calls are pipelined, and answered by callback.

A process has one, or, with a cluster, one for each shard. redis-py opens it (address, TLS, password, database; where a
shard is). All other commands go through the client of redis-py.
"""

import asyncio
import os
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, NamedTuple, Self, cast

import hiredis
import redis.exceptions
from redis.asyncio import RedisCluster

from storage.redis import function_library, keys
from storage.redis.client import Client

Done = Callable[[bytes | Exception | None], None]
_SWEEP_SECONDS = 0.05
_SPIN_SECONDS = 0.000_15
_MOST_SKIPS = 1_024
_READ_BYTES = 65_536
_RETRY_SECONDS = 0.05, 1.0  # the first pause between attempts to connect, and the longest
_ELSEWHERE = ("MOVED", "ASK", "CLUSTERDOWN", "TRYAGAIN")  # the shard is, or will be, on another node


class Call(NamedTuple):
    """A function and its keys, encoded in the protocol (RESP)."""

    words: int
    text: bytes

    @classmethod
    def of(cls, function: str, *keys: str) -> Self:
        """Encode a function and its keys, once for all batches."""
        words = "FCALL", function, str(len(keys)), *keys
        return cls(len(words), b"".join(_word(word.encode()) for word in words))

    def with_arguments(self, arguments: Sequence[bytes]) -> bytes:
        """Return the whole request."""
        count = b"*%d\r\n" % (self.words + len(arguments))
        return b"".join((count, self.text, *map(_word, arguments)))


class FunctionConnection:
    """Keeps one connection open. While there is none, calls fail at once: nobody waits for a Redis that is away."""

    def __init__(self, client: Client, timeout: float, shard: int = 0) -> None:
        """`timeout` of a call is in seconds; `shard` says which node of a cluster to connect to. `run` connects."""
        self._client = client
        self._timeout = timeout
        self._shard = shard
        self._protocol: _Protocol | None = None
        self._connected = asyncio.Event()
        self._skips, self._penalty = 0, 1

    @property
    def is_connected(self) -> bool:
        """Return whether calls can be made."""
        return self._protocol is not None

    async def connected(self) -> None:
        """Wait until calls can be made."""
        await self._connected.wait()

    def call(self, call: Call, arguments: Sequence[bytes], done: Done) -> None:
        """Call a function that answers with bytes or nil. `done` gets the answer, or the error.

        After an error it is not known whether the call had an effect.
        """
        if self._protocol is None:
            done(redis.exceptions.ConnectionError("no connection"))
            return
        self._protocol.send(call.with_arguments(arguments), done)

    def spin_for_reply(self) -> None:
        """Wait a moment for the answer, in this turn of the event loop: that is cheaper than another turn.

        If no answer came in time, Redis is busy or far away: then the next calls do not wait.
        """
        if self._protocol is None:
            return
        if self._skips > 0:
            self._skips -= 1
        elif self._protocol.spin_for_reply(_SPIN_SECONDS):
            self._penalty = 1
        else:
            self._skips = self._penalty
            self._penalty = min(2 * self._penalty, _MOST_SKIPS)

    async def run(self) -> None:
        """Keep a connection open until cancelled.

        Every error is followed by another attempt: redis-py has many errors for a cluster that it loses while it
        connects.
        """
        pause, longest = _RETRY_SECONDS
        while True:
            with suppress(Exception):
                async with asyncio.timeout(self._timeout):
                    await function_library.load(self._client)
                    protocol = await self._open()
                self._protocol = protocol
                self._connected.set()
                pause, longest = _RETRY_SECONDS
                try:
                    await protocol.watch(self._timeout)
                finally:
                    self._protocol = None
                    self._connected.clear()
                    protocol.abort()
            await asyncio.sleep(pause)
            pause = min(2 * pause, longest)

    async def _open(self) -> "_Protocol":
        connector = await self._connector()
        connection = connector.connection_class(**connector.connection_kwargs)
        await connection.connect()
        writer = cast("asyncio.StreamWriter", connection._writer)
        connection._reader = connection._writer = None  # the transport is ours from now on
        return _Protocol(writer)

    async def _connector(self) -> Any:
        """Return redis-py's object that can connect: the node of the shard, or the pool if Redis is no cluster."""
        if isinstance(self._client, RedisCluster):
            await self._client.nodes_manager.initialize()  # the shard may have moved
            return self._client.get_node_from_key(keys.epoch(self._shard))
        return self._client.connection_pool


def create_function_connections(client: Client, timeout: float, shards: int) -> list[FunctionConnection]:
    """Return the connection of each shard. It is the same for all, unless Redis is a cluster."""
    if isinstance(client, RedisCluster):
        return [FunctionConnection(client, timeout, shard) for shard in range(shards)]
    return [FunctionConnection(client, timeout)] * shards


class _Protocol(asyncio.Protocol):
    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer  # kept, since it closes its transport when it is collected
        self._transport = writer.transport
        self._transport.set_protocol(self)
        encrypted = self._transport.get_extra_info("sslcontext") is not None
        self._socket: int | None = None if encrypted else self._transport.get_extra_info("socket").fileno()
        self._reader = hiredis.Reader()
        self._waiting: deque[tuple[float, Done]] = deque()
        self._lost = asyncio.Event()

    def send(self, request: bytes, done: Done) -> None:
        if self._lost.is_set():  # a caller whose call failed may call again before FunctionConnection.run goes on
            done(redis.exceptions.ConnectionError("the connection was lost"))
            return
        self._waiting.append((time.monotonic(), done))
        self._transport.write(request)

    def spin_for_reply(self, seconds: float) -> bool:
        """Read the answers that come within this time. Spins, since to sleep and be woken takes as long."""
        until = time.perf_counter() + seconds
        while self._socket is not None and time.perf_counter() < until:
            try:
                data = os.read(self._socket, _READ_BYTES)
            except BlockingIOError:
                continue
            except OSError:  # the event loop sees it too, and reports the lost connection
                break
            self.data_received(data)
            return bool(data)
        return False

    def data_received(self, data: bytes) -> None:
        self._reader.feed(data)
        while (reply := self._reader.gets()) is not False:
            _, done = self._waiting.popleft()
            if isinstance(reply, hiredis.ReplyError):
                if "Function not found" in str(reply) or str(reply).startswith(_ELSEWHERE):
                    self.abort()  # the next connection loads the library, and finds the shard
                done(_error_of(reply))
            else:
                done(reply)

    def connection_lost(self, _: Exception | None) -> None:
        self._lost.set()
        self._fail(redis.exceptions.ConnectionError("the connection was lost"))

    async def watch(self, timeout: float) -> None:  # noqa: ASYNC109 (of each call, not of this one)
        """Return when the connection is lost, or an answer is overdue.

        After an overdue answer the connection cannot be used: answers could be taken for those of later calls.
        """
        while not self._lost.is_set():
            if self._waiting and time.monotonic() - self._waiting[0][0] > timeout:
                self._fail(redis.exceptions.TimeoutError("no answer in time"))
                return
            with suppress(TimeoutError):
                await asyncio.wait_for(self._lost.wait(), _SWEEP_SECONDS)

    def abort(self) -> None:
        """Cut the connection."""
        self._transport.abort()

    def _fail(self, error: Exception) -> None:
        waiting, self._waiting = self._waiting, deque()
        for _, done in waiting:
            done(error)


def _word(word: bytes) -> bytes:
    return b"$%d\r\n%b\r\n" % (len(word), word)


def _error_of(reply: hiredis.ReplyError) -> Exception:
    text = str(reply)
    if text.startswith("OOM"):
        return redis.exceptions.OutOfMemoryError(text)
    if text.startswith(("LOADING", "READONLY", "MASTERDOWN", "MISCONF", *_ELSEWHERE)) or "Function not found" in text:
        return redis.exceptions.ConnectionError(text)
    return redis.exceptions.ResponseError(text)
