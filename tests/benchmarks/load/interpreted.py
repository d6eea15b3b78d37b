"""The load generator in Python, for machines without a C compiler: `program` runs it in place of the compiled one."""

import argparse
import asyncio
import json
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from tests.benchmarks.load import messages
from tests.benchmarks.load.generator import TIMEOUT, Outcome, closed_loop, connected, open_loop
from tests.benchmarks.load.http2 import Connection


def main() -> None:
    """Take the options and the requests of native/load.c, and print what it prints."""
    options = _options()
    if options.varying or options.address.startswith("unix:"):
        sys.exit("load: headers that vary, and unix sockets, need the compiled generator, and so a C compiler")
    try:
        warm_up, outcome = asyncio.run(_run(options, _message(options)))
    except OSError as error:
        sys.exit(f"load: {options.address}: {error}")
    times = [outcome.latencies, outcome.latencies[outcome.statuses == 0]]
    report: dict[str, Any] = {
        "calls": outcome.calls,
        "total": outcome.calls + warm_up,
        "seconds": outcome.seconds,
        "rate": outcome.rate,
        "refused": 0,
        "connections": options.connections,
        "statuses": outcome.counts,
        **{name: {"histogram": _histogram(each)} for name, each in zip(("all_us", "ok_us"), times, strict=True)},
    }
    sys.stdout.write(json.dumps(report))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("address")
    for name in ("path", "prefix", "known-prefix"):
        parser.add_argument(f"--{name}", default="")
    for name in ("connections", "concurrency", "first", "pool", "batch", "calls"):
        parser.add_argument(f"--{name}", type=int, default=None if name == "calls" else 0)
    for name in ("rate", "seconds", "warm-up", "timeout", "returning"):
        parser.add_argument(f"--{name}", type=float, default=0.0)
    parser.add_argument("--header", action="append", default=[])
    for name in ("varying", "histogram"):
        parser.add_argument(f"--{name}", action="store_true")
    return parser.parse_args()


def _message(options: argparse.Namespace) -> Callable[[int], bytes]:
    """The request of call number n, from 0."""
    pieces: dict[str, list[bytes]] = {"head": [], "tail": [], "body": []}
    for line in sys.stdin:
        word, _, digits = line.partition(" ")
        pieces[word].append(bytes.fromhex(digits))
    if pieces["body"]:
        return lambda _: pieces["body"][0]
    new = messages.joined(pieces["head"], options.prefix, pieces["tail"])
    known = messages.joined(pieces["head"], options.known_prefix, pieces["tail"])
    user = messages.mix(new, messages.returning(known, options.pool), options.returning)
    if options.batch:
        return lambda number: messages.batch(user, (options.first + number) * options.batch, options.batch)
    return lambda number: user(options.first + number)


async def _run(options: argparse.Namespace, message: Callable[[int], bytes]) -> tuple[int, Outcome]:
    host, _, port = options.address.rpartition(":")
    metadata = [(name.strip(), value.strip()) for name, _, value in (h.partition(":") for h in options.header)]
    limits = {"timeout": options.timeout or TIMEOUT}
    most = options.calls if options.calls is not None else float("inf")

    async def load(lanes: list[Connection], seconds: float, first: int) -> Outcome:
        def later(number: int) -> bytes:
            return message(first + number)

        if options.rate:
            return await open_loop(lanes, later, rate=options.rate, seconds=seconds, **limits)
        closed = {"concurrency": options.concurrency, "seconds": seconds, "most": most - first}
        return await closed_loop(lanes, later, **closed, **limits)

    async with connected(host.strip("[]"), int(port), options.path, metadata, options.connections) as lanes:
        warm_up = (await load(lanes, options.warm_up, 0)).calls if options.warm_up else 0
        return warm_up, await load(lanes, options.seconds, warm_up)


def _histogram(seconds: "np.typing.NDArray[np.float64]") -> list[tuple[int, int]]:
    """Nanoseconds, with three digits, and counts."""
    nanoseconds = np.maximum(seconds * 1e9, 1.0)
    digits = 10.0 ** np.maximum(np.floor(np.log10(nanoseconds)) - 2, 0)
    values, counts = np.unique(np.ceil(nanoseconds / digits) * digits, return_counts=True)
    return [(int(value), int(count)) for value, count in zip(values, counts, strict=True)]


if __name__ == "__main__":
    main()
