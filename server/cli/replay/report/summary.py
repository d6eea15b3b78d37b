"""What a replay showed, in numbers."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from server.cli.replay.log.users import Cell, LoggedUser
from server.cli.replay.report.intervals import Estimate, mean_of_arms, wilson
from server.cli.replay.run import Run, Step


@dataclass(frozen=True)
class Arm:
    """A variant in the log: how many users had it, and their rate."""

    variant: str
    users: int
    rate: float


@dataclass(frozen=True)
class SegmentSummary:
    """What was chosen most in the last third of a segment's users, and what the log says was best there."""

    name: str
    users: int
    favourite: str
    favourite_share: float
    best: str
    best_rate: float


def adaptive(run: Run) -> Estimate:
    """Return the rate of the sample, the phase of learning included, with the Wilson interval."""
    return wilson(run.successes, len(run.steps))


def first_users(run: Run, count: int) -> Run:
    """Return the first `count` users of a run, to compare it with a shorter one."""
    return Run(run.steps[:count], None)


def uniform(users: Sequence[LoggedUser]) -> Estimate:
    """Return what uniform allocation earns: the mean of the variants' logged rates, with its normal interval."""
    return mean_of_arms(list(_counts(users).values()))


def arms(users: Sequence[LoggedUser]) -> list[Arm]:
    """Return every variant of the log, in alphabetical order."""
    return [Arm(variant, trials, successes / trials) for variant, (successes, trials) in _counts(users).items()]


def shares(run: Run) -> dict[str, float]:
    """Return the share of the replayed users who got each variant. A variant that nobody got is absent."""
    chosen = Counter(step.choice.variant for step in run.steps)
    return {variant: count / len(run.steps) for variant, count in chosen.items()}


def segments(users: Sequence[LoggedUser], run: Run) -> list[SegmentSummary]:
    """Return every segment that the run met, most users first.

    The server's answers tell in which segment a cell lies. Logged users of cells that no user of the run had are left
    out.
    """
    of_cell: dict[Cell, str] = {step.arrival.cell: step.choice.segment_key for step in run.steps}
    by_segment: dict[str, list[Step]] = {}
    for step in run.steps:
        by_segment.setdefault(step.choice.segment_key, []).append(step)
    logged: dict[str, list[LoggedUser]] = {key: [] for key in by_segment}
    for user in users:
        if user.cell in of_cell:
            logged[of_cell[user.cell]].append(user)
    ordered = sorted(by_segment, key=lambda key: (-len(by_segment[key]), key))
    return [_segment(by_segment[key], logged[key]) for key in ordered]


def _segment(steps: Sequence[Step], logged: Sequence[LoggedUser]) -> SegmentSummary:
    recent = steps[len(steps) - -(-len(steps) // 3) :]
    favourite, times = Counter(step.choice.variant for step in recent).most_common(1)[0]
    rates = {variant: successes / trials for variant, (successes, trials) in _counts(logged).items()}
    best = max(rates, key=lambda variant: rates[variant])
    return SegmentSummary(steps[0].choice.segment_name, len(steps), favourite, times / len(recent), best, rates[best])


def _counts(users: Sequence[LoggedUser]) -> dict[str, tuple[int, int]]:
    """Return (successes, trials) by variant, in alphabetical order."""
    trials = Counter(user.variant for user in users)
    successes = Counter(user.variant for user in users if user.success)
    return {variant: (successes[variant], trials[variant]) for variant in sorted(trials)}
