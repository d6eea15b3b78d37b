"""A simulated log with a planted crossover: the best variant depends on where a user comes from.

Over all users together A and B convert alike, so a policy without segments can only learn to avoid Control.
"""

import numpy as np

from server.cli.replay.log.columns import Columns
from server.cli.replay.log.users import Row

USERS = 12_000
SOURCES = ("instagram", "google")
DEVICES = ("mobile", "desktop")
VARIANTS = ("Control", "A", "B")
RATES = {
    ("instagram", "Control"): 0.12,
    ("instagram", "A"): 0.20,
    ("instagram", "B"): 0.08,
    ("google", "Control"): 0.12,
    ("google", "A"): 0.08,
    ("google", "B"): 0.20,
}
COLUMNS = Columns(
    variant="variant", outcome="converted", user="user", web={"utm_source": "source", "device": "device"}, attributes={}
)
SEGMENT_BY = ("source",)
CONTROL = "Control"
EXPLANATION = (
    f"A SIMULATED population of {USERS:,} users, not a real experiment: Control converts at 12 %; A at 20 % of users "
    "from instagram and 8 % of users from google; B the other way round. Segments by source."
)


def simulate(seed: int, users: int = USERS) -> list[Row]:
    """Return the rows that the CSV file of a uniformly randomised experiment would have; the same for the same seed.

    Source, device and variant are independent and uniform. The device has no effect.
    """
    random = np.random.default_rng(seed)
    sources = random.integers(len(SOURCES), size=users)
    devices = random.integers(len(DEVICES), size=users)
    variants = random.integers(len(VARIANTS), size=users)
    draws = random.random(users)
    rows: list[Row] = []
    for index in range(users):
        source, variant = SOURCES[sources[index]], VARIANTS[variants[index]]
        rows.append(
            {
                "user": f"user-{index + 1}",
                "source": source,
                "device": DEVICES[devices[index]],
                "variant": variant,
                "converted": str(int(draws[index] < RATES[source, variant])),
            }
        )
    return rows
