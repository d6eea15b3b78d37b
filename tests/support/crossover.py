"""An experiment with two segments in which different variants win, and users to decide for."""

from datetime import UTC, date, datetime

from allocator.experiment import Experiment, ExperimentState, SegmentationConfig, SegmentationMode, Variant
from allocator.hashing import user_key
from allocator.posterior.effective_trials import Count

DAY = date(2026, 3, 1)
NOW = datetime(2026, 3, 1, tzinfo=UTC)
EXPERIMENT = Experiment(
    number=1,
    experiment_id="x",
    name="X",
    description="",
    owner="",
    state=ExperimentState.RUNNING,
    variants=tuple(Variant(n, f"v{n}", f"V{n}", {}) for n in range(3)),
    control_variant_id="v0",
    primary_metric="conversion",
    segmentation=SegmentationConfig(SegmentationMode.MANUAL, ("source",), 100),
    segmentation_version=1,
    holdout_share=0.0,
    baseline_share=0.0,
    time_zone="UTC",
    salt=bytes(range(16)),
    revision=1,
    created_at=NOW,
    updated_at=NOW,
)
USERS = [user_key(b"k" * 32, str(n)) for n in range(4_000)]


def crossover() -> list[Count]:
    """Return counts by which variant 1 wins in segment 2, and variant 2 in segment 3."""
    rates = {2: (0.05, 0.20, 0.05), 3: (0.05, 0.05, 0.20)}
    return [
        Count(segment, variant, DAY, 2_000, int(2_000 * rate))
        for segment, row in rates.items()
        for variant, rate in enumerate(row)
    ]
