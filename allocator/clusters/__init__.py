"""Automatic segmentation: clusters of users with similar contexts, whose numbers and names outlive a retraining."""

from allocator.clusters.encoder import Encoder, fit_encoder
from allocator.clusters.features import Category, Cycle, Feature, Number, Ordinal
from allocator.clusters.model import ClusterModel, Drift
from allocator.clusters.training.cluster_count import Quality
from allocator.clusters.training.train import NothingToLearnError, Training, train
from allocator.limits import MIN_ASSIGNMENTS

__all__ = [
    "MIN_ASSIGNMENTS",
    "Category",
    "ClusterModel",
    "Cycle",
    "Drift",
    "Encoder",
    "Feature",
    "NothingToLearnError",
    "Number",
    "Ordinal",
    "Quality",
    "Training",
    "fit_encoder",
    "train",
]
