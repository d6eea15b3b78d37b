"""A process of its own that learns clusters: the worker's event loop goes on, and calls come first.

`python -m server.worker.training.process` reads a request from stdin, and writes frames to stdout: MessagePack, each
after its length (4 bytes, little-endian). A frame is ["progress", stage, share], ["done", training] or
["refused", reason].
"""

import asyncio
import os
import struct
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, cast

import msgspec

from allocator.clusters import ClusterModel, NothingToLearnError, Quality, Training, train

_SIZE = struct.Struct("<I")
_LEAST_NICE = 19
_decode_context = msgspec.json.Decoder(dict[str, str]).decode


class TrainingFailedError(Exception):
    """No model could be made; the message says why."""


async def train_apart(
    contexts: Sequence[str],
    *,
    max_clusters: int,
    previous: ClusterModel | None,
    next_number: int,
    progress: Callable[[str, float], Awaitable[None]],
) -> Training:
    """`allocator.clusters.train` of contexts as JSON, in another process. Raises TrainingFailedError."""
    request = {
        "contexts": contexts,
        "max_clusters": max_clusters,
        "previous": None if previous is None else previous.to_plain(),
        "next_number": next_number,
    }
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "server.worker.training.process"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    stdin, stdout = cast("asyncio.StreamWriter", process.stdin), cast("asyncio.StreamReader", process.stdout)
    try:
        with suppress(ConnectionError):  # it has died: there will be no frames
            stdin.write(msgspec.msgpack.encode(request))
            await stdin.drain()
            stdin.close()
        while True:
            kind, *values = await _frame(stdout)
            match kind:
                case "progress":
                    await progress(*values)
                case "done":
                    return _training(*values)
                case _:
                    raise TrainingFailedError(*values)
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await _ended(process)


async def _ended(process: asyncio.subprocess.Process) -> None:
    """Wait for it, whoever cancels meanwhile: on a busy machine one that runs when nobody else does is slow to die."""
    waiting = asyncio.create_task(process.wait())
    while not waiting.done():
        with suppress(asyncio.CancelledError):
            await asyncio.wait({waiting})


async def _frame(reader: asyncio.StreamReader) -> list[Any]:
    try:
        (size,) = _SIZE.unpack(await reader.readexactly(_SIZE.size))
        frame: list[Any] = msgspec.msgpack.decode(await reader.readexactly(size))
    except asyncio.IncompleteReadError:
        raise TrainingFailedError("the process that trains ended without an answer") from None
    return frame


def _training(plain: Mapping[str, Any]) -> Training:
    return Training(
        model=ClusterModel.from_plain(plain["model"]),
        quality=Quality(**plain["quality"]),
        sizes=tuple(plain["sizes"]),
        names=plain["names"],
        matched=plain["matched"],
    )


def _plain(training: Training) -> dict[str, Any]:
    return {
        "model": training.model.to_plain(),
        "quality": msgspec.to_builtins(training.quality),
        "sizes": training.sizes,
        "names": dict(training.names),
        "matched": dict(training.matched),
    }


def _main() -> None:
    _yield_to_others()
    request = msgspec.msgpack.decode(sys.stdin.buffer.read())
    previous = request["previous"]
    try:
        training = train(
            [_decode_context(context) for context in request["contexts"]],
            max_clusters=request["max_clusters"],
            previous=None if previous is None else ClusterModel.from_plain(previous),
            next_number=request["next_number"],
            progress=lambda stage, share: _write(["progress", stage, share]),
        )
    except NothingToLearnError as error:
        _write(["refused", str(error)])
    else:
        _write(["done", _plain(training)])


def _yield_to_others() -> None:
    """Run when nobody else wants to."""
    if hasattr(os, "SCHED_IDLE"):  # Linux
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    else:
        os.nice(_LEAST_NICE)


def _write(frame: list[Any]) -> None:
    body = msgspec.msgpack.encode(frame)
    sys.stdout.buffer.write(_SIZE.pack(len(body)) + body)
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    _main()
