"""The load generator as a program of its own: the compiled one, or one in Python where there is no C compiler.

Both take the same options and requests, and print the same JSON object: see native/load.c.
"""

import asyncio
import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tests.benchmarks.load import messages

TOOLS = Path("build/tools")
_SOURCES = Path(__file__).with_name("native")
_COMPILERS = "cc", "gcc", "clang"


class LoadError(Exception):
    """The generator gave up. The message says why."""


@dataclass(frozen=True, kw_only=True)
class Load:
    """What to send, and where to. native/options.h explains each option."""

    address: str
    key: str | None = None
    path: str = messages.ALLOCATE_USER
    connections: int = 4
    concurrency: int = 32
    rate: float | None = None
    seconds: float = 10.0
    calls: int | None = None
    warm_up: float = 0.0
    timeout: float | None = None
    heads: tuple[bytes, ...] = ()
    tails: tuple[bytes, ...] = ()
    body: bytes | None = None
    prefix: str = ""
    first: int = 0
    returning: float = 0.0
    pool: int = 0
    known_prefix: str = ""
    batch: int = 0
    varying: bool = False

    def arguments(self) -> list[str]:
        """The command line of the generator."""
        options: dict[str, object] = {
            "path": self.path,
            "header": f"authorization: Bearer {self.key}" if self.key else None,
            "connections": self.connections,
            "concurrency": self.concurrency,
            "rate": self.rate,
            "seconds": self.seconds,
            "calls": self.calls,
            "warm-up": self.warm_up,
            "timeout": self.timeout,
            "prefix": self.prefix,
            "first": self.first,
            "returning": self.returning,
            "pool": self.pool,
            "known-prefix": self.known_prefix,
            "batch": self.batch,
        }
        flags = ["--histogram", *(["--varying"] if self.varying else [])]
        return [*flags, *(f"--{name}={value}" for name, value in options.items() if value is not None), self.address]

    def requests(self) -> str:
        """The standard input of the generator."""
        pieces = [("head", head) for head in self.heads] + [("tail", tail) for tail in self.tails]
        if self.body is not None:
            pieces.append(("body", self.body))
        return "".join(f"{word} {piece.hex()}\n" for word, piece in pieces)

    def shares(self, processes: int) -> "list[Load]":
        """The same load as parts for several processes, with users of their own."""
        return [
            replace(
                self,
                connections=max(1, self.connections // processes),
                concurrency=self.concurrency // processes + (number < self.concurrency % processes),
                rate=self.rate and self.rate / processes,
                calls=self.calls and self.calls // processes,
                prefix=f"{self.prefix}{number}-" if processes > 1 else self.prefix,
            )
            for number in range(min(processes, self.concurrency))
        ]


@dataclass(frozen=True)
class Times:
    """Latencies in seconds, in ascending order, and how many calls had each; exact to .1 %."""

    values: npt.NDArray[np.float64]
    counts: npt.NDArray[np.int64]

    def quantile(self, q: float) -> float:
        """NaN without calls."""
        if not self.counts.size:
            return float("nan")
        seen = np.cumsum(self.counts)
        return float(self.values[np.searchsorted(seen, q * seen[-1])])


@dataclass(frozen=True)
class Report:
    """What became of the calls.

    `calls`, `seconds`, `statuses` and the times leave the warm-up out; `total` counts all calls. `statuses` are by gRPC
    code. `refused` counts streams that the server refused and that were sent again. `connections` counts all that were
    opened.
    """

    calls: int
    total: int
    seconds: float
    statuses: dict[int, int]
    refused: int
    connections: int
    all_times: Times
    ok_times: Times

    @property
    def rate(self) -> float:
        """Return the answers a second, of any status."""
        return self.calls / self.seconds if self.calls else 0.0  # the server stood still all the time

    @classmethod
    def merged(cls, parts: Sequence[dict[str, Any]]) -> "Report":
        """One report of several processes that ran at the same time."""
        statuses: Counter[int] = Counter()
        for part in parts:
            statuses.update({int(code): count for code, count in part["statuses"].items()})
        return cls(
            calls=sum(part["calls"] for part in parts),
            total=sum(part["total"] for part in parts),
            seconds=max(part["seconds"] for part in parts),
            statuses=dict(sorted(statuses.items())),
            refused=sum(part["refused"] for part in parts),
            connections=sum(part["connections"] for part in parts),
            all_times=_merge([part["all_us"]["histogram"] for part in parts]),
            ok_times=_merge([part["ok_us"]["histogram"] for part in parts]),
        )


def _merge(histograms: Sequence[Sequence[tuple[int, int]]]) -> Times:
    counts: Counter[int] = Counter()
    for histogram in histograms:
        counts.update(dict(histogram))
    nanoseconds = sorted(counts)
    return Times(np.array(nanoseconds, float) / 1e9, np.array([counts[each] for each in nanoseconds], np.int64))


async def send(load: Load, processes: int = 1) -> Report:
    """Send the load from so many processes. Raises LoadError."""
    return Report.merged(await asyncio.gather(*(_run(share) for share in load.shares(processes))))


async def _run(load: Load) -> dict[str, Any]:
    process = await asyncio.create_subprocess_exec(
        *(*program(), *load.arguments()),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        output, errors = await process.communicate(load.requests().encode())
    except asyncio.CancelledError:
        process.kill()
        await process.wait()
        raise
    if process.returncode != 0:
        raise LoadError(errors.decode().strip())
    report: dict[str, Any] = json.loads(output)
    return report


@cache
def program() -> tuple[str, ...]:
    """How to run the generator, which is compiled first if need be."""
    compiler = next(filter(None, map(shutil.which, _COMPILERS)), None)
    return (str(_compiled(compiler)),) if compiler else (sys.executable, "-m", "tests.benchmarks.load.interpreted")


def _compiled(compiler: str) -> Path:
    built = TOOLS.absolute() / "load"
    newest = max(source.stat().st_mtime for source in _SOURCES.iterdir())
    if not built.exists() or built.stat().st_mtime < newest:
        built.parent.mkdir(parents=True, exist_ok=True)
        unfinished = built.with_name(f"load.{os.getpid()}")
        subprocess.run(
            [compiler, "-std=gnu11", "-O2", "-Wall", "-Wextra", "-o", unfinished, _SOURCES / "load.c"], check=True
        )
        unfinished.replace(built)
    return built
