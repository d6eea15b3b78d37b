"""Checks every field of experiment messages, and converts them to values."""

import json
import re
import secrets
from collections.abc import Iterable, Iterator
from typing import Any

from google.protobuf.json_format import Error, MessageToDict
from samplit.admin.v1 import experiment_pb2 as pb

from allocator import limits
from allocator.errors import InvalidFieldError
from allocator.experiment import (
    DEFAULT_BASELINE_SHARE,
    LEAST_MATURITY,
    MOST_MATURITY,
    ExperimentDraft,
    OutagePolicy,
    SegmentationConfig,
    SegmentationMode,
    Variant,
)
from allocator.segments import check_dimensions
from allocator.time_zones import time_zones
from server.api.fields import Fields

_MOST_VARIANTS = 100
_MOST_CONTENT = 16 * 1024
_MOST_SHARE = 0.5
_LARGEST_EXACT = 2**53 - 1  # whole number: 2^53 + 1 comes as 2^53


def experiment_draft(message: pb.Experiment) -> ExperimentDraft:
    """Return the checked draft, with ids filled in. Raises InvalidFieldError, which names every field at fault."""
    fields = Fields()
    segmentation = segmentation_config(message.segmentation, fields)
    fields.name("experiment.name", message.name, least=1, most=128)
    fields.name("experiment.description", message.description, most=2048, breaks=True)
    fields.name("experiment.owner", message.owner, most=128)
    experiment_id = message.experiment_id or _slug(message.name) or f"experiment-{secrets.token_hex(4)}"
    fields.slug("experiment.experiment_id", experiment_id)
    variants = new_variants(message.variants, fields)
    control = message.control_variant_id or default_control(variants)
    check_control(control, variants, fields)
    draft = ExperimentDraft(
        experiment_id=experiment_id,
        name=message.name,
        description=message.description,
        owner=message.owner,
        variants=variants,
        control_variant_id=control,
        primary_metric=fields.metric("experiment.primary_metric", message.primary_metric),
        segmentation=segmentation,
        holdout_share=share(message, "holdout_share", 0.0, fields),
        baseline_share=share(message, "baseline_share", DEFAULT_BASELINE_SHARE, fields),
        time_zone=time_zone(message.time_zone, fields),
        maturity_seconds=maturity_seconds(message, fields),
        auto_maturity=message.auto_maturity,
        on_outage=outage_policy(message, fields),
    )
    check_maturity(draft.maturity_seconds, draft.auto_maturity, fields)
    fields.check()
    return draft


def segmentation_config(
    message: pb.SegmentationConfig, fields: Fields, path: str = "experiment.segmentation"
) -> SegmentationConfig:
    """Return the checked segmentation. Violations are added to `fields`."""
    mode = SegmentationMode.DISABLED
    if message.mode == pb.SEGMENTATION_MODE_MANUAL:
        mode = SegmentationMode.MANUAL
        try:
            check_dimensions(message.segment_by, f"{path}.segment_by")
        except InvalidFieldError as error:
            fields.violations.extend(error.violations)
    elif message.mode not in pb.SegmentationMode.values():
        fields.wrong(f"{path}.mode", "must be DISABLED, MANUAL or AUTO")
    elif message.segment_by:
        fields.wrong(f"{path}.segment_by", "goes with mode MANUAL")
    elif message.mode == pb.SEGMENTATION_MODE_AUTO:
        mode = SegmentationMode.AUTO
    min_samples = limits.DEFAULT_MIN_SAMPLES
    if message.HasField("min_samples_per_segment"):
        min_samples = message.min_samples_per_segment
    if min_samples > limits.MAX_MIN_SAMPLES:
        fields.wrong(f"{path}.min_samples_per_segment", f"must be at most {limits.MAX_MIN_SAMPLES}")
    segments = message.max_segments if message.HasField("max_segments") else limits.DEFAULT_MAX_SEGMENTS
    if not limits.MIN_SEGMENTS <= segments <= limits.MAX_SEGMENTS:
        fields.wrong(f"{path}.max_segments", f"must be {limits.MIN_SEGMENTS} to {limits.MAX_SEGMENTS}")
    clusters = message.max_clusters if message.HasField("max_clusters") else limits.DEFAULT_MAX_CLUSTERS
    if not limits.MIN_CLUSTERS <= clusters <= limits.MAX_CLUSTERS:
        fields.wrong(f"{path}.max_clusters", f"must be {limits.MIN_CLUSTERS} to {limits.MAX_CLUSTERS}")
    threshold = limits.DEFAULT_AUTO_ACTIVATION_THRESHOLD
    if message.HasField("auto_activation_threshold"):
        threshold = message.auto_activation_threshold
    least, most = limits.MIN_AUTO_ACTIVATION_THRESHOLD, limits.MAX_AUTO_ACTIVATION_THRESHOLD
    if not least <= threshold <= most:
        fields.wrong(f"{path}.auto_activation_threshold", f"must be {least} to {most:,} visitors a day")
    return SegmentationConfig(
        mode,
        tuple(message.segment_by),
        min_samples,
        segments,
        clusters,
        auto_activation=message.auto_activation,
        auto_activation_threshold=threshold,
        auto_clustering_enabled=message.auto_clustering_enabled,
    )


def new_variants(messages: Iterable[pb.Variant], fields: Fields) -> tuple[Variant, ...]:
    """Return the checked variants, numbered in their order, with ids filled in."""
    variants: list[Variant] = []
    for number, message in enumerate(messages):
        path = f"experiment.variants[{number}]"
        if message.retired:
            fields.wrong(f"{path}.retired", "a variant can be retired only once the experiment has started")
        variants.append(variant(number, message, path, fields))
    check_variants(variants, fields)
    return tuple(variants)


def variant(number: int, message: pb.Variant, path: str, fields: Fields) -> Variant:
    """Return one checked variant."""
    fields.name(f"{path}.name", message.name, least=1, most=128)
    variant_id = message.variant_id or _slug(message.name)
    fields.slug(f"{path}.variant_id", variant_id)
    return Variant(number, variant_id, message.name, _content(message, f"{path}.content", fields), message.retired)


def check_variants(variants: list[Variant], fields: Fields) -> None:
    """Check that there are at least two variants, not too many, and no id twice."""
    if not 2 <= len(variants) <= _MOST_VARIANTS:
        fields.wrong("experiment.variants", f"must be 2 to {_MOST_VARIANTS}, are {len(variants)}")
    seen: set[str] = set()
    for index, each in enumerate(variants):
        if each.variant_id in seen:
            fields.wrong(f"experiment.variants[{index}].variant_id", f"{each.variant_id!r} is there twice")
        seen.add(each.variant_id)


def check_control(control: str, variants: Iterable[Variant], fields: Fields) -> None:
    """Check that the control is an active variant."""
    active = [each.variant_id for each in variants if not each.retired]
    if control not in active:
        fields.wrong("experiment.control_variant_id", f"must be one of {', '.join(active)}; is {control!r}")


def default_control(variants: tuple[Variant, ...]) -> str:
    """Return "control" if there is such a variant, else the first id."""
    ids = [each.variant_id for each in variants]
    return "control" if "control" in ids else next(iter(ids), "")


def share(message: pb.Experiment, name: str, default: float, fields: Fields) -> float:
    """Return a checked share of users, 0 to 0.5."""
    value = float(getattr(message, name)) if message.HasField(name) else default  # type: ignore[arg-type]
    if not 0 <= value <= _MOST_SHARE:
        fields.wrong(f"experiment.{name}", f"must be 0 to {_MOST_SHARE}, is {value}")
    return value


def time_zone(name: str, fields: Fields) -> str:
    """Return a checked IANA name. Empty means UTC. PostgreSQL must know it too, which is checked when it is stored."""
    if name and name not in time_zones():
        fields.wrong("experiment.time_zone", f'must be an IANA time zone such as "Europe/Berlin", is {name[:70]!r}')
        return "UTC"
    return name or "UTC"


def outage_policy(message: pb.Experiment, fields: Fields) -> OutagePolicy:
    """Return the checked outage policy. Unset means CONTROL."""
    if message.on_outage not in pb.OutagePolicy.values():
        fields.wrong("experiment.on_outage", "must be CONTROL or UNAVAILABLE")
    if message.on_outage == pb.OUTAGE_POLICY_UNAVAILABLE:
        return OutagePolicy.UNAVAILABLE
    return OutagePolicy.CONTROL


def maturity_seconds(message: pb.Experiment, fields: Fields) -> int:
    """Return the checked maturity in seconds. Unset means 0."""
    seconds, nanos = message.maturity.seconds, message.maturity.nanos
    if nanos or (seconds and not LEAST_MATURITY <= seconds <= MOST_MATURITY):
        fields.wrong("experiment.maturity", "must be 0, or 1 minute to 30 days in whole seconds")
        return 0
    return seconds


def check_maturity(seconds: int, auto: bool, fields: Fields) -> None:
    """Check that the maturity is not both set and automatic."""
    if seconds and auto:
        fields.wrong("experiment.maturity", "must be 0 with auto_maturity")


def _content(message: pb.Variant, path: str, fields: Fields) -> dict[str, Any]:
    try:
        content = MessageToDict(message.content)
        size = len(json.dumps(content, ensure_ascii=False, allow_nan=False).encode())
    except (Error, ValueError, RecursionError):
        fields.wrong(path, "must be JSON: no NaN or infinite numbers")
        return {}
    for field, value in _inexact(content, path):
        fields.wrong(field, f"must be a whole number of at most 2^53 - 1, is {value:.17g}: send larger ones as text")
    if size > _MOST_CONTENT:
        fields.wrong(path, f"must have at most {_MOST_CONTENT} bytes as JSON, has {size}")
    if "\\u0000" in json.dumps(content):
        fields.wrong(path, "must not contain NUL")
    return content


def _inexact(value: Any, path: str) -> Iterator[tuple[str, float]]:
    """Yield the numbers that may have been changed on their way: a Struct has doubles, which hold 53 bits."""
    if isinstance(value, dict):
        for name, each in value.items():
            yield from _inexact(each, f"{path}.{name}")
    elif isinstance(value, list):
        for index, each in enumerate(value):
            yield from _inexact(each, f"{path}[{index}]")
    elif isinstance(value, float) and abs(value) > _LARGEST_EXACT and value.is_integer():
        yield path, value


def _slug(name: str) -> str:
    return re.sub("[^a-z0-9]+", "-", name.lower()).strip("-")[:63].rstrip("-")
