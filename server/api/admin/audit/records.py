"""What the audit keeps of an experiment, and the difference that a change makes."""

import json
from typing import Any

from google.protobuf.json_format import MessageToDict

from allocator.experiment import Experiment, SegmentationConfig
from server.api.admin.messages import segmentation_config_message


def experiment_record(experiment: Experiment) -> dict[str, Any]:
    """Return what people set of an experiment. Variants stand under their ids."""
    return {
        "name": experiment.name,
        "state": experiment.state.value,
        "description": experiment.description,
        "owner": experiment.owner,
        "variants": {
            variant.variant_id: {
                "name": variant.name,
                "content": variant.content,
                "retired": variant.retired,
                "position": position,
            }
            for position, variant in enumerate(experiment.variants)
        },
        "control_variant_id": experiment.control_variant_id,
        "winner_variant_id": experiment.winner_variant_id,
        "primary_metric": experiment.primary_metric,
        "segmentation": segmentation_record(experiment.segmentation),
        "holdout_share": experiment.holdout_share,
        "baseline_share": experiment.baseline_share,
        "time_zone": experiment.time_zone,
        "maturity_seconds": experiment.maturity_seconds,
        "auto_maturity": experiment.auto_maturity,
        "on_outage": experiment.on_outage.value,
    }


def segmentation_record(segmentation: SegmentationConfig) -> dict[str, Any]:
    """Return what people set of a segmentation."""
    fields = MessageToDict(
        segmentation_config_message(segmentation),
        preserving_proto_field_name=True,
        always_print_fields_with_no_presence=True,
    )
    del fields["model_version"]
    return fields | {"mode": segmentation.mode.value}


def changes(before: dict[str, Any], after: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the innermost fields that differ: as they were, and as they are.

    A field that is missing before or after is missing in that result too.
    """
    was: dict[str, Any] = {}
    now: dict[str, Any] = {}
    for name in {**before, **after}:
        old, new = before.get(name), after.get(name)
        if isinstance(old, dict) and isinstance(new, dict):
            inner_was, inner_now = changes(old, new)
            was |= {name: inner_was} if inner_was else {}
            now |= {name: inner_now} if inner_now else {}
        elif name not in before or name not in after or _text(old) != _text(new):
            was |= {name: old} if name in before else {}
            now |= {name: new} if name in after else {}
    return was, now


def _text(value: Any) -> str:
    """Return a text that differs for 1 and true."""
    return json.dumps(value, sort_keys=True)
