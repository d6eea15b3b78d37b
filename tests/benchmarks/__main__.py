"""List the figures, or measure one again: `python -m tests.benchmarks [NAME]` writes build/figures/NAME.json."""

import importlib
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.benchmarks.row import Row, write_rows

_SERVING = {
    "publish": "what a posterior version costs, and how that grows with segments and arms (1 minute)",
    "context": "what reading a context costs, and calls while unseen user agents flood in (2 minutes)",
    "cardinality": "100,000 random values of a dimension: segments, memory and latency afterwards (2 minutes)",
    "hot-path": "calls against no-ops of gRPC: throughput, CPU, latency, modes, batches, TLS, growth (35 minutes); "
    "PARTS=throughput,latency measures these parts alone",
    "frames": "ten million frames of clients, most of them illegal: exceptions, hangs, leaks (12 minutes; "
    "installs atheris); FRAMES=100000 sends fewer",
    "overload": "three times the calls that a server can answer: calls answered in time, latency, memory (3 minutes)",
    "faults": "25 kills, a full disk, a damaged file, an older copy of Redis: what is lost or doubled (5 minutes)",
    "fuzz": "a million random and damaged requests to every method: statuses, leaks, deaths, memory (10 minutes)",
    "slow-redis": "calls and recovery while Redis is late, silent, half-closed or gone (3 minutes)",
    "million": "a million users through AllocateUsers: speed, and memory of server and Valkey (3 minutes)",
    "memory": "bytes that an assignment takes in Valkey, and calls while it holds five million (3 minutes)",
    "drain": "rows stored and counted a second, against a bare COPY into the same kind of table (1 minute)",
}
_DECIDING = {
    "kernels": "draws and decisions against NumPy and mabwiser, ratios in one run (1 minute; installs mabwiser)",
    "sampler": "variates, probabilities to be best and choices against SciPy (1 minute)",
    "scenarios": "conversions lost by pooling rules over 1,000 simulated experiments a row (15 minutes)",
    "drift": "the share of users who get the best arm while the base rate falls, by how trials are weighed (1 minute)",
    "calibration": "coverage of nominal 90 % intervals over 1,000 simulated experiments a row (8 minutes)",
    "replay": "real and simulated experiments replayed through a running server, one of them killed (2 minutes)",
}
_SEGMENTING = {
    "false-recommendations": "segmentations recommended where none pays and where one does, 1,000 runs a row (2 min)",
    "user_agents": "classes of user agents, bots found, and the cost of a new one, on labelled collections (1 minute)",
    "referrers": "sources and media of known sites against public lists (1 minute)",
    "clusters-planted": "planted audiences found and named, and none where there are none, 20 seeds a row (11 minutes)",
    "clusters-real": "clusters of two public data sets: how many, their names, and how stable they are (5 minutes)",
    "clustering": "a training on millions of assignments, calls meanwhile, serving by clusters (15 minutes)",
    "month": "a month of simulated users: segmentation turns on, is measured, and turns off by itself (5 minutes)",
    "eligibility": "what a check of eligibility reads, how long it takes, and 1,000 of them in a row (3 minutes)",
    "hillstrom": "a public experiment with every dimension offered: recommended, expected and measured (3 minutes)",
}
FIGURES = {"serving": _SERVING, "deciding": _DECIDING, "segmenting": _SEGMENTING}
_FOLDERS = {name: folder for folder, figures in FIGURES.items() for name in figures}


def find_figure(name: str) -> Callable[[], Sequence[Row]]:
    """Return the function that measures this figure. Raises KeyError if there is no figure of this name."""
    module = importlib.import_module(f"tests.benchmarks.{_FOLDERS[name]}.{name.replace('-', '_')}")
    rows: Callable[[], Sequence[Row]] = module.rows
    return rows


def main() -> int:
    """Return the exit status: 0 if every goal is met, 1 if one is missed, 2 if there is no figure of this name."""
    console = Console(width=180)
    if len(sys.argv) == 1:
        for figures in FIGURES.values():
            for name, what in figures.items():
                console.print(f"  make figure NAME={name}  {what}")
        return 0
    name = sys.argv[1]
    if name not in _FOLDERS:
        console.print(f"there is no figure {name!r}: one of {', '.join(_FOLDERS)}")
        return 2
    os.environ.setdefault(
        "GRPC_ENABLE_FORK_SUPPORT", "0"
    )  # else gRPC logs a line for each process that a figure starts
    rows = find_figure(name)()
    path = write_rows(Path("build/figures") / f"{name}.json", rows)
    table = Table("figure", "reference", "ours", "ratio", "spread", "goal", "holds")
    for row in rows:
        table.add_row(
            row.figure, row.reference, row.ours, f"{row.ratio:.3f}", row.spread, row.goal, "yes" if row.holds else "NO"
        )
    console.print(table)
    console.print(f"written to {path}")
    return 0 if all(row.holds for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
