"""Clusters as tables. Names are never taken as markup."""

from collections.abc import Sequence

from rich import box
from rich.table import Table
from samplit.admin.v1.clustering_service_pb2 import (
    ClusteringJob,
    ClusteringJobState,
    ClusterModel,
    GetClusteringStatusResponse,
)

from allocator.wording import evidence_text
from server.cli.views.formats import fields_table, format_time, plain


def status_fields(answer: GetClusteringStatusResponse) -> Table:
    """Show a row for each thing that is known of the clusters of an experiment."""
    fields = {"": answer.summary, "assignments": f"{answer.assignments:,}"}
    if answer.HasField("job"):
        fields["last training"] = _job(answer.job)
    if answer.HasField("model"):
        model = answer.model
        fields["model"] = f"{model.model_version}, of {format_time(model.trained_at)}"
        fields["clusters"] = ", ".join(f"{each.name} ({each.share:.0%})" for each in model.clusters)
    if answer.HasField("drift"):
        drift = answer.drift
        fields["last week"] = (
            f"{drift.users:,} users: {drift.far_share:.1%} far from every cluster, sizes shifted by "
            f"{drift.share_shift:.1%}"
        )
    if answer.HasField("evidence"):
        evidence = answer.evidence
        beaten = "every variant is" if evidence.every_variant_is_beaten else "not every variant is"
        fields["evidence"] = f"{evidence_text(evidence.e_value, evidence.needed)}; {beaten} beaten in some cluster"
    return fields_table(fields)


def clusters_table(model: ClusterModel) -> Table:
    """Show a row for each cluster, the largest first, and how well the model separates them."""
    table = Table("Cluster", "Name", box=box.SIMPLE_HEAD, title=f"model {model.model_version}")
    table.add_column("Share", justify="right")
    table.add_column("")
    for cluster in model.clusters:
        notes = [word for word, holds in (("new", not cluster.kept), ("named by people", cluster.renamed)) if holds]
        table.add_row(plain(cluster.segment_key), plain(cluster.name), f"{cluster.share:.1%}", ", ".join(notes))
    table.caption = (
        f"silhouette {model.silhouette:.2f}, gap {model.gap:.3f} ± {model.gap_error:.3f}, prediction strength "
        f"{model.prediction_strength:.2f}"
    )
    return table


def models_table(models: Sequence[ClusterModel]) -> Table:
    """Show a row for each model, the newest first."""
    table = Table("Model", "Trained", box=box.SIMPLE_HEAD)
    for name in ("Assignments", "Clusters"):
        table.add_column(name, justify="right")
    table.add_column("")
    for model in models:
        table.add_row(
            str(model.model_version),
            format_time(model.trained_at),
            f"{model.assignments:,}",
            str(len(model.clusters)),
            plain(model.problem),
        )
    return table


def _job(job: ClusteringJob) -> str:
    state = ClusteringJobState.Name(job.state).removeprefix("CLUSTERING_JOB_STATE_")
    if job.HasField("finished_at"):
        return f"{state}, {format_time(job.finished_at)}" + (f": {job.error}" if job.error else "")
    return f"{state} {job.stage} {job.progress:.0%}, requested by {job.actor}, {format_time(job.requested_at)}"
