"""The replay itself: users arrive in batches, the server chooses, the log answers, the server learns.

The stop rule is that of server.cli.replay.queues: the run ends at the first user whose queue is empty, and the users
before are the sample.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from server.cli.replay.client import Choice
from server.cli.replay.log.users import LoggedUser
from server.cli.replay.queues import ARRIVALS, OUTCOMES, Queues, shuffled


class Server(Protocol):
    """What a run needs of a server: server.cli.replay.client.ReplayClient has it."""

    def allocate(self, users: Sequence[LoggedUser]) -> list[Choice]:
        """Return the choice for each user, in their order."""

    def convert(self, users: Sequence[LoggedUser]) -> None:
        """Record a conversion of each user."""

    def wait_until_learned(self, allocations: int, conversions: int, after_version: int) -> int:
        """Wait until the server has counted so much and serves a posterior after that version; return its version."""


@dataclass(frozen=True)
class Step:
    """One user of the sample: who arrived, what was chosen, whose outcome the log gave."""

    arrival: LoggedUser
    choice: Choice
    outcome: LoggedUser


@dataclass(frozen=True)
class Run:
    """The sample in order of arrival, and the user at whom it stopped; None if every user arrived."""

    steps: list[Step]
    stopped_at: tuple[LoggedUser, Choice] | None

    @property
    def successes(self) -> int:
        """How many users of the sample converted."""
        return sum(step.outcome.success for step in self.steps)


def run(
    server: Server,
    users: Sequence[LoggedUser],
    seed: int,
    batch: int,
    limit: int | None,
    advanced: Callable[[Run], None],
) -> Run:
    """Replay up to `limit` of the users, `batch` at a time; `advanced` is called after each batch.

    The same seed gives the same order of arrival and the same queues.
    """
    arrivals = shuffled(users, seed, ARRIVALS)[:limit]
    queues = Queues(shuffled(users, seed, OUTCOMES))
    steps: list[Step] = []
    allocated = version = 0
    for begin in range(0, len(arrivals), batch):
        group = arrivals[begin : begin + batch]
        choices = server.allocate(group)
        taken, stopped_at = _outcomes(queues, group, choices)
        server.convert([step.arrival for step in taken if step.outcome.success])
        steps += taken
        allocated += len(group)
        so_far = Run(steps, stopped_at)
        version = server.wait_until_learned(allocated, so_far.successes, version)
        advanced(so_far)
        if stopped_at is not None:
            break
    return Run(steps, stopped_at)


def _outcomes(
    queues: Queues, group: Sequence[LoggedUser], choices: Sequence[Choice]
) -> tuple[list[Step], tuple[LoggedUser, Choice] | None]:
    steps: list[Step] = []
    for arrival, choice in zip(group, choices, strict=True):
        outcome = queues.take(arrival.cell, choice.variant)
        if outcome is None:
            return steps, (arrival, choice)
        steps.append(Step(arrival, choice, outcome))
    return steps, None
