"""What is published of an experiment: its configuration and the posterior that fits it."""

from dataclasses import dataclass
from datetime import datetime

from allocator.experiment import Experiment


@dataclass(frozen=True)
class SealedPosterior:
    """An encrypted posterior and its version."""

    version: int
    ciphertext: bytes
    published_at: datetime


@dataclass(frozen=True)
class Publication:
    """A configuration and a posterior of one moment, so that they fit each other.

    `posterior` is None until something was learned.
    """

    experiment: Experiment
    posterior: SealedPosterior | None
