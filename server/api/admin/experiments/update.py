"""Checks which fields of an experiment may change in which state, and makes the changed experiment."""

from dataclasses import replace
from typing import Any

from samplit.admin.v1 import experiment_pb2 as pb

from allocator.errors import ExperimentStateError
from allocator.experiment import DEFAULT_BASELINE_SHARE, Experiment, ExperimentState, Variant
from server.api.admin.experiments import validation
from server.api.fields import Fields

_ALWAYS = ("name", "description", "owner", "variants", "maturity", "auto_maturity", "on_outage")
_IN_DRAFT = (
    *_ALWAYS,
    "control_variant_id",
    "primary_metric",
    "segmentation",
    "holdout_share",
    "baseline_share",
    "time_zone",
)
_FIELDS = {"maturity": "maturity_seconds"}


def apply_update(experiment: Experiment, message: pb.Experiment, paths: list[str]) -> Experiment:
    """Return the experiment with the masked fields of `message`.

    Raises:
        InvalidFieldError: a path is unknown, or a value is not acceptable.
        ExperimentStateError: the field cannot change any more.
    """
    fields = Fields()
    if not paths:
        fields.wrong("update_mask", f"must name one or more of {', '.join(_IN_DRAFT)}")
    for path in paths:
        if path not in _IN_DRAFT:
            fields.wrong("update_mask", f"{path[:70]!r} is not one of {', '.join(_IN_DRAFT)}")
    fields.check()
    fixed = [path for path in paths if path not in _ALWAYS]
    if fixed and experiment.state is not ExperimentState.DRAFT:
        raise ExperimentStateError(
            f"experiment {experiment.experiment_id!r} has started: {', '.join(fixed)} can change in DRAFT only "
            "(segmentation by UpdateSegmentationConfig)",
            experiment_id=experiment.experiment_id,
            state=experiment.state.value,
        )
    changes = {_FIELDS.get(path, path): _value(path, experiment, message, fields) for path in paths}
    changed = replace(experiment, **changes)
    if "maturity" in paths:
        validation.check_maturity(changed.maturity_seconds, changed.auto_maturity, fields)
    validation.check_control(changed.control_variant_id, changed.variants, fields)
    fields.check()
    return changed


def _value(path: str, experiment: Experiment, message: pb.Experiment, fields: Fields) -> Any:
    match path:
        case "name":
            return fields.name("experiment.name", message.name, least=1, most=128)
        case "description":
            return fields.name("experiment.description", message.description, most=2048, breaks=True)
        case "owner":
            return fields.name("experiment.owner", message.owner, most=128)
        case "primary_metric":
            return fields.metric("experiment.primary_metric", message.primary_metric)
        case "segmentation":
            return validation.segmentation_config(message.segmentation, fields)
        case "holdout_share":
            return validation.share(message, path, 0.0, fields)
        case "baseline_share":
            return validation.share(message, path, DEFAULT_BASELINE_SHARE, fields)
        case "time_zone":
            return validation.time_zone(message.time_zone, fields)
        case "maturity":
            return validation.maturity_seconds(message, fields)
        case "auto_maturity":
            return message.auto_maturity
        case "on_outage":
            return validation.outage_policy(message, fields)
        case "variants" if experiment.state is not ExperimentState.DRAFT:
            return _changed_variants(experiment, message, fields)
        case "variants":
            return validation.new_variants(message.variants, fields)
        case _:
            return message.control_variant_id


def _changed_variants(experiment: Experiment, message: pb.Experiment, fields: Fields) -> tuple[Variant, ...]:
    """Return the variants of a started experiment. Known ids keep their numbers, and new ids get new numbers."""
    numbers = {variant.variant_id: variant.number for variant in experiment.variants}
    variants: list[Variant] = []
    for index, each in enumerate(message.variants):
        path = f"experiment.variants[{index}]"
        checked = validation.variant(0, each, path, fields)
        number = numbers.setdefault(checked.variant_id, max(numbers.values()) + 1)
        known = experiment.variant(checked.variant_id)
        if known is not None and known.retired and not checked.retired:
            fields.wrong(f"{path}.retired", "a retired variant stays retired; add a new one instead")
        variants.append(replace(checked, number=number))
    validation.check_variants(variants, fields)
    missing = set(numbers) - {variant.variant_id for variant in variants}
    if missing:
        fields.wrong("experiment.variants", f"must keep {', '.join(sorted(missing))}: retire what is not wanted")
    if sum(not variant.retired for variant in variants) < 2:
        fields.wrong("experiment.variants", "must leave at least 2 that are not retired")
    return tuple(variants)
