"""Ten million frames into connections without a socket: recorded, changed at random, cut anywhere, in wild times.

Nothing may leave the transport as an exception, take long, or be kept. Where the package h2 finds nothing to object to,
the connection may only end for one of our own limits. `FRAMES=100000` sends fewer, `SEED=7` others. A connection where
something went wrong is printed: `CONNECTION=1000000042` repeats it alone. Then atheris chooses frames by the code that
they reach, for `GUIDED_SECONDS`.
"""

import asyncio
import gc
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import time
import warnings
from collections import Counter
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil
import uvloop

from server.transport.connection import Connection
from server.transport.http2 import frames
from server.transport.http2.frames import ErrorCode
from tests.benchmarks.row import Row
from tests.benchmarks.serving.frames.mutations import cut, mutate
from tests.benchmarks.serving.frames.recordings import Frame, Recorder
from tests.benchmarks.serving.frames.target import Target
from tests.unit.transport.judge import Judge

_FRAMES = int(os.environ.get("FRAMES", "10_000_000"))
_SEED = int(os.environ.get("SEED", "1"))
_HANG_SECONDS = 20.0  # of processor time, for all of a connection
_MOST_SECONDS = 0.1  # the same, for as many frames as are sent at once
_MOST_AT_ONCE = 30
_MOST_GROWTH_MIB = 16  # of resident memory, from a tenth of the frames on: less than two bytes a frame
_VARIANTS = 20  # of a recording, which costs more to make than to send
_MOST_SHOWN = 20
_MUTATIONS = (0, 1, 1, 2, 4, 10)
_GREETING = frames.PREFACE + frames.settings_frame({})
_GUIDED_SECONDS = int(os.environ.get("GUIDED_SECONDS", "120"))
_STRICTER = (b"RST_STREAM on an idle stream",)  # RFC 9113 §6.4 forbids it, and h2 lets it pass
_LEGAL_ENDS = (ErrorCode.NO_ERROR, ErrorCode.ENHANCE_YOUR_CALM)  # our own limits, and a drain


def rows() -> list[Row]:
    """Return what was sent, and what went wrong."""
    return uvloop.run(_run()) + _guided_rows()


def _guided_rows() -> list[Row]:
    """Return what frames did that atheris chose, where it is installed."""
    if find_spec("atheris") is None:
        return []
    command = [sys.executable, str(Path(__file__).with_name("guided.py")), str(_GUIDED_SECONDS)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    reports = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    runs, sent = (reports[-1]["runs"], reports[-1]["frames"]) if reports else (0, 0)
    if done.returncode:
        print(done.stdout[-2000:], done.stderr[-2000:])  # noqa: T201
    what = f"{sent:,} in {runs:,} connections, {_GUIDED_SECONDS} s"
    return [Row("failures by frames that coverage chose", "0", what, done.returncode, "", "0", not done.returncode)]


async def _run() -> list[Row]:
    return await _Fuzz().run()


class _HangError(BaseException):
    """A connection took too long. Nothing in the transport may catch it."""


class _Fuzz:
    def __init__(self) -> None:
        self.target = Target()
        self.frames = self.connections = self.judged = self.hangs = 0
        self.longest = 0.0
        self.disagreements: Counter[str] = Counter()
        self.kinds: Counter[int] = Counter()

    async def run(self) -> list[Row]:
        self._watch()
        begin, resident, shown = time.monotonic(), 0, 0
        only = os.environ.get("CONNECTION")
        for seed in [int(only)] if only else itertools.count(_SEED * 10**9):
            seen = self._wrong()
            await self._connect(seed)
            if self._wrong() > seen and shown < _MOST_SHOWN:
                shown += 1
                print(f"CONNECTION={seed}: {_first(self.target.failures + self.disagreements)}")  # noqa: T201
            if not resident and self.frames >= _FRAMES // 10:
                resident = _resident()
            if self.frames >= _FRAMES:
                break
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        minutes = (time.monotonic() - begin) / 60
        return self._rows(resident, minutes)

    def _wrong(self) -> int:
        return self.target.failures.total() + self.disagreements.total() + self.hangs

    async def _connect(self, seed: int) -> None:
        """Send what one client sends, and hang up."""
        draw = random.Random(seed)  # noqa: S311 # no secret
        signal.setitimer(signal.ITIMER_VIRTUAL, _HANG_SECONDS)
        recorded = list(_record(seed // _VARIANTS))
        for _ in range(draw.choice(_MUTATIONS)):
            mutate(draw, recorded)
        disturbs = draw.random() < 0.2
        connection = self.target.connect()
        self.connections += 1
        try:
            await self._play(draw, connection, recorded, disturbs=disturbs)
            await self.target.end(connection)
        except _HangError:
            self.hangs += 1
        if not disturbs:
            self._judge(connection, recorded)

    async def _play(
        self, draw: random.Random, connection: Connection, recorded: list[Frame], *, disturbs: bool
    ) -> None:
        target = self.target
        await target.send(connection, _GREETING)
        batch = draw.choice([1, 3, _MOST_AT_ONCE])
        for group in _batched(recorded, batch):
            begin = time.thread_time()
            for piece in cut(draw, b"".join(frame.pack() for frame in group)):
                if target.is_over(connection):
                    return
                await target.send(connection, piece)
            self.longest = max(self.longest, time.thread_time() - begin)
            self.frames += len(group)
            self.kinds.update(frame.kind for frame in group)
            if disturbs and not target.is_over(connection):
                await target.disturb(connection, draw.random())

    def _judge(self, connection: Connection, recorded: list[Frame]) -> None:
        """Compare the end of a connection with what h2 says of all that was sent."""
        code, reason = _last_goaway(connection.transport.written)  # type: ignore[attr-defined]
        if code is None or code in _LEGAL_ENDS or reason in _STRICTER:
            return
        self.judged += 1
        judge = Judge()
        judge.take(_GREETING)
        for frame in recorded:
            judge.take(frame.pack())
        if not (judge.objected or judge.is_undecided):
            self.disagreements[f"{code.name}: {reason.decode()}"] += 1

    def _watch(self) -> None:
        """Count what asyncio and Python say beside, and wake up if a connection hangs."""

        def hang(*_: object) -> None:
            raise _HangError

        def note(_: object, context: dict[str, Any]) -> None:
            self.target.failures[f"{context.get('exception') or context['message']!r}"] += 1

        def unraisable(what: "sys.UnraisableHookArgs") -> None:
            self.target.failures[f"{what.exc_value!r}"] += 1

        def warned(message: Warning | str, *_: object) -> None:
            self.target.failures[f"{message}"] += 1

        warnings.showwarning = warned  # type: ignore[assignment]
        warnings.simplefilter("always", RuntimeWarning)  # such as a coroutine that nobody awaits
        signal.signal(signal.SIGVTALRM, hang)
        asyncio.get_running_loop().set_exception_handler(note)
        sys.unraisablehook = unraisable

    def _rows(self, resident: int, minutes: float) -> list[Row]:
        gc.collect()
        failures, wrong = self.target.failures.total(), self.disagreements.total()
        tasks = len(asyncio.all_tasks()) - 1
        left = tasks + sum(isinstance(kept, Connection) for kept in gc.get_objects())
        growth = max(0, _resident() - resident) / 2**20
        kinds = ", ".join(f"{kind}: {self.kinds[kind]:,}" for kind in sorted(self.kinds) if kind <= frames.CONTINUATION)
        sent = f"{self.frames:,} in {self.connections:,} connections, {minutes:.0f} min"
        refused = f"{wrong} of {self.judged:,} ended connections"
        return [
            Row("frames", f"{_FRAMES:,}", sent, self.frames / _FRAMES, kinds, "all", self.frames >= _FRAMES),
            Row("exceptions", "0", f"{failures}", failures, _first(self.target.failures), "0", not failures),
            Row("hangs", "0", f"{self.hangs}", self.hangs, "", "0", not self.hangs),
            Row(
                *(f"processor time of {_MOST_AT_ONCE} frames, at most", f"{_MOST_SECONDS} s"),
                *(f"{self.longest * 1e3:.1f} ms", self.longest / _MOST_SECONDS, "", "≤ 1"),
                self.longest <= _MOST_SECONDS,
            ),
            Row("connections and tasks left", "0", f"{left}", left, "", "0", not left),
            Row(
                *("growth of resident memory", "a tenth sent", f"{growth:.1f} MiB", growth / _MOST_GROWTH_MIB, ""),
                *(f"≤ {_MOST_GROWTH_MIB} MiB", growth <= _MOST_GROWTH_MIB),
            ),
            Row("ended without a fault that h2 finds", "0", refused, wrong, _first(self.disagreements), "0", not wrong),
        ]


@lru_cache(maxsize=1)
def _record(seed: int) -> list[Frame]:
    draw = random.Random(seed)  # noqa: S311 # no secret
    return Recorder(draw).record(draw.randrange(1, 25))


def _batched(recorded: list[Frame], size: int) -> list[list[Frame]]:
    return [recorded[begin : begin + size] for begin in range(0, len(recorded), size)]


def _last_goaway(written: bytes) -> tuple[ErrorCode | None, bytes]:
    """Return why a connection ended: code and words of the last GOAWAY."""
    begin, code, reason = 0, None, b""
    while begin < len(written):
        head, _, _ = frames.HEAD.unpack_from(written, begin)
        begin += frames.HEAD_SIZE
        end = begin + (head >> 8)
        if head & 0xFF == frames.GOAWAY:
            code, reason = ErrorCode(frames.NUMBER.unpack_from(written, begin + 4)[0]), written[begin + 8 : end]
        begin = end
    return code, reason


def _resident() -> int:
    return int(psutil.Process().memory_info().rss)


def _first(counts: Counter[str]) -> str:
    return "; ".join(f"{count}× {what}" for what, count in counts.most_common(3))
