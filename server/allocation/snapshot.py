"""What one process knows of one experiment: everything that a decision needs."""

from collections.abc import Mapping
from dataclasses import dataclass

from allocator.clusters import ClusterModel
from allocator.experiment import Experiment, Variant
from allocator.posterior.tables import PosteriorTables, posterior_tables
from allocator.segments import OTHER, cluster_key, segment_key
from server.allocation.registry import SegmentRegistry


@dataclass(frozen=True)
class Snapshot:
    """An experiment with the tables that decide, and its variants by number. It is replaced as a whole.

    model: divides users into clusters; None where the segmentation needs none, or where the model cannot be read.
    """

    experiment: Experiment
    tables: PosteriorTables
    segments: SegmentRegistry
    control: Variant
    variants: Mapping[int, Variant]
    model: ClusterModel | None = None

    def segment_key(self, dimensions: Mapping[str, str]) -> str:
        """Return the segment key of a context. It is "other" where the cluster model cannot be read."""
        if self.model is not None:
            return cluster_key(self.model.number(dimensions))
        segmentation = self.experiment.segmentation
        return OTHER if segmentation.model_version else segment_key(segmentation.segment_by, dimensions)


def fitting_tables(experiment: Experiment, *candidates: PosteriorTables | None) -> PosteriorTables:
    """Return the newest of the candidates that fit the configuration, or the prior if none fits.

    Tables fit if they have the experiment's segmentation version and exactly its active variants.
    """
    active = tuple(variant.number for variant in experiment.variants if not variant.retired)
    fitting = [
        tables
        for tables in candidates
        if tables is not None
        and tables.variants == active
        and tables.segmentation_version == experiment.segmentation_version
    ]
    if not fitting:
        return posterior_tables(0, experiment.segmentation_version, active, [])
    return max(fitting, key=lambda tables: tables.version)
