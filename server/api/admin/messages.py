"""Converts experiments to messages of samplit.admin.v1, and makes etags."""

from datetime import datetime

from google.protobuf.duration_pb2 import Duration
from google.protobuf.json_format import ParseDict
from google.protobuf.timestamp_pb2 import Timestamp
from samplit.admin.v1 import experiment_pb2 as pb
from samplit.admin.v1 import experiment_service_pb2

from allocator.errors import StaleEtagError
from allocator.estimates import Estimate
from allocator.experiment import Experiment, SegmentationConfig


def experiment_message(experiment: Experiment) -> pb.Experiment:
    """Return an experiment as a message."""
    message = pb.Experiment(
        experiment_id=experiment.experiment_id,
        name=experiment.name,
        description=experiment.description,
        owner=experiment.owner,
        state=pb.ExperimentState.Value(f"EXPERIMENT_STATE_{experiment.state.value}"),
        control_variant_id=experiment.control_variant_id,
        primary_metric=experiment.primary_metric,
        segmentation=segmentation_config_message(experiment.segmentation),
        holdout_share=experiment.holdout_share,
        baseline_share=experiment.baseline_share,
        time_zone=experiment.time_zone,
        maturity=Duration(seconds=experiment.maturity_seconds),
        auto_maturity=experiment.auto_maturity,
        on_outage=pb.OutagePolicy.Value(f"OUTAGE_POLICY_{experiment.on_outage.value}"),
        winner_variant_id=experiment.winner_variant_id,
        etag=etag(experiment),
        created_at=timestamp(experiment.created_at),
        updated_at=timestamp(experiment.updated_at),
        started_at=timestamp(experiment.started_at),
        completed_at=timestamp(experiment.completed_at),
    )
    for variant in experiment.variants:
        added = message.variants.add(variant_id=variant.variant_id, name=variant.name, retired=variant.retired)
        ParseDict(variant.content, added.content)
    return message


def segmentation_config_message(segmentation: SegmentationConfig) -> pb.SegmentationConfig:
    """Return the configuration of a segmentation as a message."""
    return pb.SegmentationConfig(
        mode=pb.SegmentationMode.Value(f"SEGMENTATION_MODE_{segmentation.mode.value}"),
        segment_by=segmentation.segment_by,
        min_samples_per_segment=segmentation.min_samples_per_segment,
        max_segments=segmentation.max_segments,
        max_clusters=segmentation.max_clusters,
        model_version=segmentation.model_version or 0,
        auto_activation=segmentation.auto_activation,
        auto_activation_threshold=segmentation.auto_activation_threshold,
        auto_clustering_enabled=segmentation.auto_clustering_enabled,
    )


def etag(experiment: Experiment) -> str:
    """Return the etag of an experiment. It changes with every change."""
    return f"r{experiment.revision}"


def check_etag(experiment: Experiment, sent: str) -> None:
    """Check a sent etag. Raises StaleEtagError if it is neither empty nor the current one."""
    if sent and sent != etag(experiment):
        raise StaleEtagError(
            f"experiment {experiment.experiment_id!r} was changed: its etag is {etag(experiment)!r}, not {sent[:64]!r}",
            experiment_id=experiment.experiment_id,
        )


def timestamp(at: datetime | None) -> Timestamp | None:
    """Return a time as a message, or None."""
    if at is None:
        return None
    message = Timestamp()
    message.FromDatetime(at)
    return message


def estimate_message(estimate: Estimate | None) -> experiment_service_pb2.Estimate | None:
    """Return a value with its interval as a message, or None."""
    if estimate is None:
        return None
    return experiment_service_pb2.Estimate(value=estimate.value, lower=estimate.lower, upper=estimate.upper)


def set_estimate(field: experiment_service_pb2.Estimate, estimate: Estimate | None) -> None:
    """Set a field to an estimate. None leaves it unset."""
    message = estimate_message(estimate)
    if message is not None:
        field.CopyFrom(message)
