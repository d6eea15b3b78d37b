"""The queue-based evaluator: Mandel, Liu, Brunskill, Popović, "Offline Evaluation of Online Reinforcement Learning
Algorithms", AAAI 2016.

Every pair of a cell (a combination of context values) and a variant has a queue of the logged users who had both. A
user arrives, the policy chooses a variant, and the outcome is the next one in the queue of the user's cell and that
variant. Each logged user's outcome is used at most once, so the policy meets fresh outcomes as it would have online.

Stop rule: the evaluation ends at the first user whose queue is empty. The users before are the sample.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence

import numpy as np

from server.cli.replay.log.users import Cell, LoggedUser

ARRIVALS, OUTCOMES = 0, 1


class Queues:
    """Logged users by cell and variant, taken from the front. Each queue keeps the order of `users`."""

    def __init__(self, users: Iterable[LoggedUser]) -> None:
        self._queues: dict[tuple[Cell, str], list[LoggedUser]] = defaultdict(list)
        for user in users:
            self._queues[user.cell, user.variant].append(user)
        for queue in self._queues.values():
            queue.reverse()

    def take(self, cell: Cell, variant: str) -> LoggedUser | None:
        """Return the next user of the cell who had the variant, or None if none is left, which ends the evaluation."""
        queue = self._queues.get((cell, variant))
        return queue.pop() if queue else None


def shuffled(users: Sequence[LoggedUser], seed: int, purpose: int) -> list[LoggedUser]:
    """Return the users in a random order, which differs for each seed and purpose (ARRIVALS or OUTCOMES)."""
    return [users[index] for index in np.random.default_rng([seed, purpose]).permutation(len(users))]
