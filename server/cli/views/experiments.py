"""Experiments as tables. Texts of users are never taken as markup."""

from collections.abc import Sequence

from google.protobuf import json_format
from rich import box
from rich.table import Table
from samplit.admin.v1.experiment_pb2 import Experiment, ExperimentState, OutagePolicy, SegmentationMode

from server.cli.views.formats import fields_table, format_time, plain

_ID_WIDTH = 44


def experiments_table(experiments: Sequence[Experiment]) -> Table:
    """Show a row for each experiment."""
    table = Table(box=box.SIMPLE_HEAD)
    longest = max((len(experiment.experiment_id) for experiment in experiments), default=0)
    table.add_column("Id", overflow="fold", no_wrap=longest <= _ID_WIDTH)  # to be copied, so in one piece
    table.add_column("Name")
    table.add_column("State", no_wrap=True)
    table.add_column("Segments by")
    for experiment in experiments:
        table.add_row(
            plain(experiment.experiment_id),
            plain(experiment.name),
            _state(experiment),
            plain(", ".join(experiment.segmentation.segment_by) or "–"),
        )
    return table


def experiment_fields(experiment: Experiment) -> Table:
    """Show a row for each field but the variants."""
    segmentation = experiment.segmentation
    fields = {
        "id": experiment.experiment_id,
        "name": experiment.name,
        "description": experiment.description,
        "owner": experiment.owner,
        "state": _state(experiment),
        "control": experiment.control_variant_id,
        "winner": experiment.winner_variant_id,
        "primary metric": experiment.primary_metric,
        "segmentation": SegmentationMode.Name(segmentation.mode).removeprefix("SEGMENTATION_MODE_"),
        "segment by": ", ".join(segmentation.segment_by),
        "min samples per segment": f"{segmentation.min_samples_per_segment:,}",
        "holdout share": f"{experiment.holdout_share:g}",
        "baseline share": f"{experiment.baseline_share:g}",
        "maturity": _maturity(experiment),
        "on outage": OutagePolicy.Name(experiment.on_outage).removeprefix("OUTAGE_POLICY_"),
        "time zone": experiment.time_zone,
        "created": _time(experiment, "created_at"),
        "updated": _time(experiment, "updated_at"),
        "started": _time(experiment, "started_at"),
        "completed": _time(experiment, "completed_at"),
        "etag": experiment.etag,
    }
    return fields_table(fields)


def variants_table(experiment: Experiment) -> Table:
    """Show a row for each variant, with its content."""
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("Variant", overflow="fold")
    table.add_column("Name")
    table.add_column("Content", overflow="fold")
    for variant in experiment.variants:
        content = json_format.MessageToJson(variant.content, indent=None, ensure_ascii=False)
        name = f"{variant.name} (retired)" if variant.retired else variant.name
        table.add_row(plain(variant.variant_id), plain(name), plain(content))
    return table


def _state(experiment: Experiment) -> str:
    return ExperimentState.Name(experiment.state).removeprefix("EXPERIMENT_STATE_")


def _maturity(experiment: Experiment) -> str:
    found = experiment.maturity.ToTimedelta()
    text = str(found) if found else "no limit"
    return f"{text} (auto)" if experiment.auto_maturity else text


def _time(experiment: Experiment, field: str) -> str:
    return format_time(getattr(experiment, field)) if experiment.HasField(field) else ""  # type: ignore[arg-type]
