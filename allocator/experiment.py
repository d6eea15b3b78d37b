"""Experiments, their variants and their configuration, as frozen values."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum, IntEnum
from functools import cached_property
from typing import Any

from allocator.limits import (
    DEFAULT_AUTO_ACTIVATION_THRESHOLD,
    DEFAULT_MAX_CLUSTERS,
    DEFAULT_MAX_SEGMENTS,
    DEFAULT_MIN_SAMPLES,
)
from allocator.posterior.checks import check_groups

DEFAULT_BASELINE_SHARE = 0.1


LEAST_MATURITY, MOST_MATURITY = 60, 30 * 86_400  # seconds


class ExperimentState(Enum):
    """The state of an experiment, which says what it may do."""

    DRAFT = "DRAFT"
    RUNNING = "RUNNING"
    PAUSED = "PAUSED"
    COMPLETED = "COMPLETED"


class SegmentationMode(Enum):
    """How users are divided into segments."""

    DISABLED = "DISABLED"
    MANUAL = "MANUAL"
    AUTO = "AUTO"


class OutagePolicy(Enum):
    """What a user gets who has no known assignment while Redis is out of reach."""

    CONTROL = "CONTROL"
    UNAVAILABLE = "UNAVAILABLE"


class Reason(IntEnum):
    """Why a user got a variant. samplit.allocation.v1.Reason and stored records have the same numbers."""

    SAMPLED = 1
    HOLDOUT = 2
    BASELINE = 3
    FALLBACK = 4
    BOT = 5
    PAUSED = 6
    COMPLETED = 7
    DEGRADED = 8
    OVERRIDE = 9
    VARIANT_RETIRED = 10


class Group(IntEnum):
    """The randomised group of a user in an experiment."""

    ADAPTIVE = 1
    BASELINE = 2
    HOLDOUT = 3


@dataclass(frozen=True)
class Variant:
    """One of the things that users may see.

    number: stands for the variant in posterior tables and records, and is never reused.
    added_later: whether it was added to a running experiment.
    """

    number: int
    variant_id: str
    name: str
    content: dict[str, Any]
    retired: bool = False
    added_later: bool = False


@dataclass(frozen=True)
class SegmentationConfig:
    """How an experiment is segmented.

    segment_by: the dimensions, in the order of the segment key.
    max_segments: how many segments may have a posterior of their own; all others share the segment "other".
    max_clusters: with mode AUTO, how many clusters there may be.
    model_version: with mode AUTO, the cluster model that divides the users; None until a model is trained, and users
        are not divided until then.
    auto_activation: whether the server may turn segmentation on and off by itself. It turns it on only if
        auto_activation_threshold visitors come a day.
    auto_clustering_enabled: whether it may do so with clusters too.
    """

    mode: SegmentationMode = SegmentationMode.DISABLED
    segment_by: tuple[str, ...] = ()
    min_samples_per_segment: int = DEFAULT_MIN_SAMPLES
    max_segments: int = DEFAULT_MAX_SEGMENTS
    max_clusters: int = DEFAULT_MAX_CLUSTERS
    model_version: int | None = None
    auto_activation: bool = False
    auto_activation_threshold: int = DEFAULT_AUTO_ACTIVATION_THRESHOLD
    auto_clustering_enabled: bool = False

    @property
    def divides(self) -> bool:
        """Return whether there is more than one segment."""
        return bool(self.segment_by) or self.model_version is not None


@dataclass(frozen=True)
class DecisionRules:
    """What decisions follow of a configuration. `variants` are the numbers of the variants that may be drawn."""

    variants: tuple[int, ...]
    holdout_share: float
    baseline_share: float
    segmentation: SegmentationConfig


@dataclass(frozen=True)
class Experiment:
    """An experiment as Postgres stores it.

    number: stands for the experiment in records. salt: 16 bytes, which seed its draws and groups.
    revision: grows by one with every change, and is the etag. segmentation_version: only grows.
    maturity_seconds: how long after the assignment a conversion counts; 0 means for ever.
    cluster_names: by segment key.
    """

    number: int
    experiment_id: str
    name: str
    description: str
    owner: str
    state: ExperimentState
    variants: tuple[Variant, ...]
    control_variant_id: str
    primary_metric: str
    segmentation: SegmentationConfig
    segmentation_version: int
    holdout_share: float
    baseline_share: float
    time_zone: str
    salt: bytes = field(repr=False)
    revision: int
    created_at: datetime
    updated_at: datetime
    started_at: datetime | None = None
    completed_at: datetime | None = None
    winner_variant_id: str = ""
    maturity_seconds: int = 0
    auto_maturity: bool = False
    on_outage: OutagePolicy = OutagePolicy.CONTROL
    cluster_names: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Raise InvalidTableError if the shares of the groups are more than 1 together."""
        check_groups(self.holdout_share, self.baseline_share)

    def variant(self, variant_id: str) -> Variant | None:
        """Return the variant with this id, retired or not; None if there is none."""
        return next((v for v in self.variants if v.variant_id == variant_id), None)

    @property
    def control(self) -> Variant:
        """Return the control variant."""
        return next(v for v in self.variants if v.variant_id == self.control_variant_id)

    @cached_property
    def control_number(self) -> int:
        """Return the number of the control variant."""
        return self.control.number


@dataclass(frozen=True)
class ExperimentDraft:
    """The part of a new experiment that the caller sets. The order of the variants gives them their numbers."""

    experiment_id: str
    name: str
    variants: tuple[Variant, ...]
    control_variant_id: str
    description: str = ""
    owner: str = ""
    primary_metric: str = "conversion"
    segmentation: SegmentationConfig = field(default_factory=SegmentationConfig)
    holdout_share: float = 0.0
    baseline_share: float = DEFAULT_BASELINE_SHARE
    time_zone: str = "UTC"
    maturity_seconds: int = 0
    auto_maturity: bool = False
    on_outage: OutagePolicy = OutagePolicy.CONTROL
