"""The process that trains a cluster model, apart from the worker, whose event loop must go on.

`python -m server.worker.training.process` reads a request from stdin and writes frames to stdout, both in MessagePack.
Before each frame stands its length (4 bytes, little-endian). The process runs only while the machine has nothing else
to do, so that calls come first.
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

_FRAME_SIZE = struct.Struct("<I")
_LOWEST_PRIORITY = 19  # of `nice`
_decode_context = msgspec.json.Decoder(dict[str, str]).decode


class TrainingFailedError(Exception):
    """No model could be trained. The message says why."""


class _Progress(msgspec.Struct, tag="progress"):
    """How far a stage of the training is: `share` is 0 to 1."""

    stage: str
    share: float


class _Done(msgspec.Struct, tag="done"):
    """The training, as plain data."""

    training: dict[str, Any]


class _Refused(msgspec.Struct, tag="refused"):
    """Why no model can be trained."""

    reason: str


_Frame = _Progress | _Done | _Refused


async def train_in_process(
    contexts: Sequence[str],
    *,
    max_clusters: int,
    previous: ClusterModel | None,
    next_number: int,
    progress: Callable[[str, float], Awaitable[None]],
) -> Training:
    """Run `allocator.clusters.train` in another process.

    contexts: one JSON object for each user. progress: called with the stage and the share of it that is done (0 to 1).
    Raises TrainingFailedError.
    """
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
        with suppress(ConnectionError):  # the process has died: it will write no frames
            stdin.write(msgspec.msgpack.encode(request))
            await stdin.drain()
            stdin.close()
        while True:
            match await _read_frame(stdout):
                case _Progress(stage=stage, share=share):
                    await progress(stage, share)
                case _Done(training=training):
                    return _training(training)
                case _Refused(reason=reason):
                    raise TrainingFailedError(reason)
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await _wait_until_ended(process)


async def _wait_until_ended(process: asyncio.subprocess.Process) -> None:
    """Wait until the process has ended, even if this is cancelled.

    On a busy machine that takes a while, since the process runs only when no other does.
    """
    waiting = asyncio.create_task(process.wait())
    while not waiting.done():
        with suppress(asyncio.CancelledError):
            await asyncio.wait({waiting})


async def _read_frame(reader: asyncio.StreamReader) -> _Frame:
    try:
        (size,) = _FRAME_SIZE.unpack(await reader.readexactly(_FRAME_SIZE.size))
        body = await reader.readexactly(size)
    except asyncio.IncompleteReadError:
        raise TrainingFailedError(
            "the training process ended before it was done; it may have run out of memory. Train again"
        ) from None
    frame: _Frame = msgspec.msgpack.decode(body, type=_Frame)
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
    _lower_priority()
    request = msgspec.msgpack.decode(sys.stdin.buffer.read())
    previous = request["previous"]
    try:
        training = train(
            [_decode_context(context) for context in request["contexts"]],
            max_clusters=request["max_clusters"],
            previous=None if previous is None else ClusterModel.from_plain(previous),
            next_number=request["next_number"],
            progress=lambda stage, share: _write(_Progress(stage, share)),
        )
    except NothingToLearnError as error:
        _write(_Refused(str(error)))
    else:
        _write(_Done(_plain(training)))


def _lower_priority() -> None:
    """Run only while no other process of the machine wants to."""
    if hasattr(os, "SCHED_IDLE"):  # Linux
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    else:
        os.nice(_LOWEST_PRIORITY)


def _write(frame: _Frame) -> None:
    body = msgspec.msgpack.encode(frame)
    sys.stdout.buffer.write(_FRAME_SIZE.pack(len(body)) + body)
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    _main()
