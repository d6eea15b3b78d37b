"""Experiments as tables. Texts of users are never taken as markup."""

from collections.abc import Mapping, Sequence
from datetime import UTC

from google.protobuf import json_format
from google.protobuf.timestamp_pb2 import Timestamp
from rich import box
from rich.table import Table
from rich.text import Text
from samplit.admin.v1.experiment_pb2 import Experiment, ExperimentState, OutagePolicy, SegmentationMode

_ID_WIDTH = 44


def experiments_table(experiments: Sequence[Experiment]) -> Table:
    """One row each."""
    table = Table(box=box.SIMPLE_HEAD)
    longest = max((len(experiment.experiment_id) for experiment in experiments), default=0)
    table.add_column("Id", overflow="fold", no_wrap=longest <= _ID_WIDTH)  # to be copied, so in one piece
    table.add_column("Name")
    table.add_column("State", no_wrap=True)
    table.add_column("Segments by")
    for experiment in experiments:
        table.add_row(
            Text(experiment.experiment_id),
            Text(experiment.name),
            _state(experiment),
            Text(", ".join(experiment.segmentation.segment_by) or "–"),
        )
    return table


def experiment_fields(experiment: Experiment) -> Table:
    """Every field but the variants, a row each."""
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


def fields_table(fields: Mapping[str, str]) -> Table:
    """A row each. Texts of users are never taken as markup."""
    table = Table(box=None, show_header=False)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in fields.items():
        table.add_row(name, Text(value or "–"))
    return table


def variants_table(experiment: Experiment) -> Table:
    """The variants with their contents."""
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("Variant", overflow="fold")
    table.add_column("Name")
    table.add_column("Content", overflow="fold")
    for variant in experiment.variants:
        content = json_format.MessageToJson(variant.content, indent=None, ensure_ascii=False)
        name = f"{variant.name} (retired)" if variant.retired else variant.name
        table.add_row(Text(variant.variant_id), Text(name), Text(content))
    return table


def format_time(stamp: Timestamp) -> str:
    """To the second, in UTC."""
    return f"{stamp.ToDatetime(UTC):%Y-%m-%d %H:%M:%S} UTC"


def _state(experiment: Experiment) -> str:
    return ExperimentState.Name(experiment.state).removeprefix("EXPERIMENT_STATE_")


def _maturity(experiment: Experiment) -> str:
    found = experiment.maturity.ToTimedelta()
    text = str(found) if found else "no limit"
    return f"{text} (auto)" if experiment.auto_maturity else text


def _time(experiment: Experiment, field: str) -> str:
    return format_time(getattr(experiment, field)) if experiment.HasField(field) else ""  # type: ignore[arg-type]
