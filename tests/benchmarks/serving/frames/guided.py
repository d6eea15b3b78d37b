"""Lets atheris choose frames by the code that they reach: `python tests/benchmarks/serving/frames/guided.py SECONDS`.

Prints how many runs and frames there were. Fails, with the bytes that did it, as soon as something goes wrong.
It is run as a file, because atheris must see the first import of the transport.
"""

import asyncio
import json
import random
import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["server.transport"]):
    from server.transport.http2 import frames
    from tests.benchmarks.serving.frames.recordings import Recorder
    from tests.benchmarks.serving.frames.target import Target

_RECORDINGS = 300
_LARGEST_INPUT = 8_000
_REPORT_RUNS = 1_000


class _Guided:
    def __init__(self, target: Target, loop: asyncio.AbstractEventLoop) -> None:
        self._target = target
        self._loop = loop
        self._runs = self._frames = 0

    def run(self, data: bytes) -> None:
        """Send what atheris chose, frame by frame, on a connection of its own."""
        self._loop.run_until_complete(self._run(data))
        assert not self._target.failures, self._target.failures
        self._runs += 1
        if self._runs % _REPORT_RUNS == 0:
            print(json.dumps({"runs": self._runs, "frames": self._frames}), flush=True)  # noqa: T201

    async def _run(self, data: bytes) -> None:
        target = self._target
        connection = target.connect()
        await target.send(connection, frames.PREFACE + frames.settings_frame({}))
        begin = 0
        while len(data) - begin >= frames.HEAD_SIZE and not target.is_over(connection):
            head, _, _ = frames.HEAD.unpack_from(data, begin)
            end = begin + frames.HEAD_SIZE + (head >> 8)
            await target.send(connection, data[begin:end])
            begin = end
            self._frames += 1
        await target.end(connection)


def _write_recordings(folder: Path) -> None:
    for seed in range(_RECORDINGS):
        draw = random.Random(seed)  # noqa: S311 # no secret
        recorded = Recorder(draw).record(draw.randrange(1, 8))
        (folder / str(seed)).write_bytes(b"".join(frame.pack() for frame in recorded))


async def _make_target() -> Target:
    return Target()


def main(seconds: str) -> None:
    """Fuzz for so long. Ends the process."""
    loop = asyncio.new_event_loop()
    guided = _Guided(loop.run_until_complete(_make_target()), loop)
    folder = tempfile.mkdtemp(prefix="frames")
    _write_recordings(Path(folder))
    options = [
        f"-max_total_time={seconds}",
        f"-max_len={_LARGEST_INPUT}",
        "-timeout=10",
        "-len_control=0",
        f"-artifact_prefix={folder}/",
    ]
    atheris.Setup([sys.argv[0], *options, folder], guided.run)
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1])
