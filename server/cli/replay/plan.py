"""The experiment that a replay creates."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from samplit.admin.v1 import experiment_pb2

from server.cli.replay.errors import ReplayError
from server.cli.replay.log.users import LoggedUser

_MAX_ID = 63


@dataclass(frozen=True)
class Plan:
    """The settings of the experiment.

    variants: by variant id, the value that stands in the log.
    segment_by: dimensions; empty for no segments.
    """

    experiment_id: str
    name: str
    variants: dict[str, str]
    control_id: str
    segment_by: tuple[str, ...]
    min_samples: int
    baseline_share: float

    def to_experiment(self) -> experiment_pb2.Experiment:
        """Return the message for CreateExperiment."""
        manual = experiment_pb2.SEGMENTATION_MODE_MANUAL
        return experiment_pb2.Experiment(
            experiment_id=self.experiment_id,
            name=self.name,
            description="A replay of a logged experiment.",
            variants=[experiment_pb2.Variant(variant_id=key, name=value) for key, value in self.variants.items()],
            control_variant_id=self.control_id,
            segmentation=experiment_pb2.SegmentationConfig(
                mode=manual if self.segment_by else experiment_pb2.SEGMENTATION_MODE_DISABLED,
                segment_by=self.segment_by,
                min_samples_per_segment=self.min_samples,
            ),
            baseline_share=self.baseline_share,
        )


def slug(text: str) -> str:
    """Return an id made of the text's letters and digits. Raises ReplayError where it has none."""
    made = re.sub(r"[^a-z0-9_]+", "-", text.lower()).strip("-_")[:_MAX_ID]
    if not made:
        raise ReplayError(f"no id can be made from {text!r}: it has no letter a-z and no digit")
    return made


def unique_id(name: str, now: datetime) -> str:
    """Return an id for this run: a slug of the name with the time to the second, at most 32 characters."""
    return f"{slug(name)[:20]}-{now:%m%d-%H%M%S}"


def variant_ids(users: Sequence[LoggedUser]) -> dict[str, str]:
    """Return the log's variants by id, in alphabetical order. Raises ReplayError where two would have the same id."""
    variants: dict[str, str] = {}
    for value in sorted({user.variant for user in users}):
        if variants.setdefault(slug(value), value) != value:
            raise ReplayError(
                f"variants {variants[slug(value)]!r} and {value!r} would have the same id, {slug(value)!r}"
            )
    return variants


def find_control(variants: dict[str, str], wanted: str | None) -> str:
    """Return the id of the control variant. Raises ReplayError.

    wanted: its value in the log or its id; None takes the first variant.
    """
    if wanted is None:
        return next(iter(variants))
    for key, value in variants.items():
        if wanted in (key, value):
            return key
    raise ReplayError(f"the log has no variant {wanted!r}; it has {', '.join(variants.values())}")
