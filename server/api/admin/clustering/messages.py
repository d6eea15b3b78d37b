"""Converts cluster models, trainings and evidence to messages, and describes the status in words."""

from collections.abc import Mapping

from samplit.admin.v1 import clustering_service_pb2 as pb

from allocator.clusters import MIN_ASSIGNMENTS, Drift
from allocator.experiment import SegmentationMode
from allocator.segmentation.evidence import SegmentationEvidence
from allocator.segments import cluster_key
from server.api.admin.messages import timestamp
from storage.postgres.segmentation.cluster_models import ClusterName, StoredModel
from storage.postgres.segmentation.trainings import Job, JobState


def job_message(job: Job) -> pb.ClusteringJob:
    """Return a training as a message."""
    return pb.ClusteringJob(
        job_id=str(job.job_id),
        state=pb.ClusteringJobState.Value(f"CLUSTERING_JOB_STATE_{job.state.value}"),
        stage=job.stage,
        progress=job.progress,
        actor=job.actor,
        requested_at=timestamp(job.requested_at),
        started_at=timestamp(job.started_at),
        finished_at=timestamp(job.finished_at),
        error=job.error,
        model_version=job.model_version or 0,
    )


def model_message(model: StoredModel, names: Mapping[int, ClusterName]) -> pb.ClusterModel:
    """Return a model as a message. `names` are the names of all clusters of the experiment."""
    return pb.ClusterModel(
        model_version=model.version,
        trained_at=timestamp(model.trained_at),
        assignments=model.assignments,
        sampled=model.sampled,
        clusters=[
            pb.Cluster(
                segment_key=cluster_key(member.number),
                name=names[member.number].name,
                renamed=names[member.number].is_given,
                share=member.share,
                kept=member.kept,
            )
            for member in model.members
        ],
        silhouette=model.silhouette,
        gap=model.gap,
        gap_error=model.gap_error,
        prediction_strength=model.prediction_strength,
        problem=model.problem,
    )


def drift_message(drift: Drift, users: int) -> pb.ClusterDrift:
    """Return the drift as a message."""
    return pb.ClusterDrift(users=users, far_share=drift.far_share, share_shift=drift.share_shift)


def evidence_message(evidence: SegmentationEvidence) -> pb.ClusterEvidence:
    """Return as a message whether segmenting by clusters pays."""
    return pb.ClusterEvidence(
        e_value=evidence.e_value,
        needed=evidence.needed,
        every_variant_is_beaten=evidence.every_arm_is_beaten,
        is_enough=evidence.is_enough,
    )


def summary(
    mode: SegmentationMode,
    job: Job | None,
    model: StoredModel | None,
    evidence: SegmentationEvidence | None,
    assignments: int,
) -> str:
    """Return the status in words. `mode` is the wanted mode, `model` the serving model."""
    parts = []
    if job is not None and job.state is JobState.FAILED:
        parts.append(f"the last training failed: {job.error}")
    if job is not None and job.finished_at is None:
        parts.append(
            "a training waits for a worker" if job.state is JobState.QUEUED else f"a model is trained: {job.stage}"
        )
    if model is None:
        parts.append(_without_model(mode, assignments))
    elif model.problem:
        parts.append(model.problem)
    elif len(model.members) == 1:
        parts.append("no audiences were found: everyone is in one cluster, which is as good as no segmentation")
    else:
        parts.append(_with_model(len(model.members), evidence))
    return "; ".join(part for part in parts if part)


def _without_model(mode: SegmentationMode, assignments: int) -> str:
    if mode is not SegmentationMode.AUTO:
        return f"no clusters serve: the mode is {mode.value}"
    if assignments < MIN_ASSIGNMENTS:
        return f"waiting for {MIN_ASSIGNMENTS:,} assignments: there are {assignments:,}"
    return "no model serves yet"


def _with_model(count: int, evidence: SegmentationEvidence | None) -> str:
    if evidence is not None and evidence.is_enough:
        return f"{count} clusters serve, and different variants are best in them"
    return (
        f"{count} clusters serve; so far nothing shows that they need different variants, so they learn from each "
        "other as one, which costs little"
    )
