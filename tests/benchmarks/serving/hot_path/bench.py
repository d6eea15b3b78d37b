"""What every part of the figure measures with."""

from dataclasses import dataclass

from tests.benchmarks.testbed.testbed import Target, Testbed

POOL = 2_000  # returning users
CROWD = "32 calls under way"


@dataclass(frozen=True)
class Bench:
    """An installation, with the experiment "off" started, and the no-ops beside it. `go` is None without Go."""

    bed: Testbed
    noop: Target
    go: Target | None
