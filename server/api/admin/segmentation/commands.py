"""The write of SegmentationService: change the segmentation of an experiment."""

from dataclasses import replace
from typing import Any

from samplit.admin.v1 import experiment_pb2
from samplit.admin.v1 import segmentation_service_pb2 as pb

from allocator.defects import InvalidConfigurationError
from allocator.errors import Violation
from allocator.experiment import Experiment, ExperimentState, SegmentationConfig, SegmentationMode
from server.api.admin.audit.records import changes, segmentation_record
from server.api.admin.clustering.training_queue import TrainingQueue
from server.api.admin.experiments import validation
from server.api.admin.messages import etag, segmentation_config_message
from server.api.admin.writes import Writes, locked_experiment
from server.api.authentication import caller
from server.api.fields import Fields
from server.clock import Clock
from server.recommendations.begin_segmentation import begin_segmentation
from storage.postgres.experiments import experiments
from storage.postgres.operations import audit
from storage.postgres.pool import Connection
from storage.postgres.segmentation import segmentations
from storage.postgres.segmentation.segmentations import PendingSegmentation

_FIELDS = tuple(n for n in experiment_pb2.SegmentationConfig.DESCRIPTOR.fields_by_name if n != "model_version")


class SegmentationCommands:
    """Changes segmentations."""

    def __init__(self, writes: Writes, training_queue: TrainingQueue, clock: Clock) -> None:
        self._writes = writes
        self._training_queue = training_queue
        self._clock = clock

    async def update(self, request: pb.UpdateSegmentationConfigRequest) -> pb.UpdateSegmentationConfigResponse:
        """Change the masked fields. A worker moves a started experiment to new dimensions in the background.

        Raises InvalidFieldError, ExperimentNotFoundError, StaleEtagError.
        """

        async def change(connection: Connection) -> tuple[Experiment, pb.UpdateSegmentationConfigResponse]:
            before = await locked_experiment(connection, request.experiment_id, request.etag)
            pending = await segmentations.pending(connection, before.number)
            coming = _coming(before, pending)
            wanted = _wanted(coming, request)
            after = await self._apply(connection, before, pending, wanted)
            difference = changes(segmentation_record(coming), segmentation_record(wanted))
            now = self._clock()
            await audit.record(connection, before.number, caller.get(), "segmentation.update", *difference, now)
            message = segmentation_message(after, await segmentations.pending(connection, before.number))
            return after, pb.UpdateSegmentationConfigResponse(segmentation=message)

        response = await self._writes(request, change, pb.UpdateSegmentationConfigResponse)
        await self._training_queue.enqueue_waiting(request.experiment_id)
        return response

    async def _apply(
        self,
        connection: Connection,
        before: Experiment,
        pending: PendingSegmentation | None,
        wanted: SegmentationConfig,
    ) -> Experiment:
        now = self._clock()
        if before.state is ExperimentState.DRAFT:
            return await experiments.update(connection, replace(before, segmentation=wanted), now)
        serving = before.segmentation
        rule = wanted.mode, wanted.segment_by
        if pending is None or rule != (pending.mode, pending.segment_by):
            if rule == (serving.mode, serving.segment_by):
                await segmentations.abandon(connection, before.number)
            else:
                await begin_segmentation(connection, before, *rule, caller.get(), now)
        sizes = replace(wanted, mode=serving.mode, segment_by=serving.segment_by, model_version=serving.model_version)
        return await experiments.update(connection, replace(before, segmentation=sizes), now)


def segmentation_message(experiment: Experiment, pending: PendingSegmentation | None) -> pb.Segmentation:
    """Return what serves and what is being prepared as a message."""
    message = pb.Segmentation(
        config=segmentation_config_message(experiment.segmentation),
        segmentation_version=experiment.segmentation_version,
        etag=etag(experiment),
    )
    if pending is not None:
        message.pending.segmentation_version = pending.version
        message.pending.mode = _mode(pending.mode)
        message.pending.segment_by.extend(pending.segment_by)
        message.pending.requested_at.FromDatetime(pending.created_at)
        message.pending.model_version = pending.model_version or 0
    return message


def _coming(experiment: Experiment, pending: PendingSegmentation | None) -> SegmentationConfig:
    """Return the configuration that is being prepared, or else the serving one."""
    if pending is None:
        return experiment.segmentation
    return replace(experiment.segmentation, mode=pending.mode, segment_by=pending.segment_by)


def _wanted(coming: SegmentationConfig, request: pb.UpdateSegmentationConfigRequest) -> SegmentationConfig:
    """Return the configuration with the masked fields of the request."""
    fields = Fields()
    paths = list(request.update_mask.paths)
    if not paths:
        fields.wrong("update_mask", f"must name one or more of {', '.join(_FIELDS)}")
    for path in paths:
        if path not in _FIELDS:
            fields.wrong("update_mask", f"{path[:70]!r} is not one of {', '.join(_FIELDS)}")
    fields.check()
    merged = segmentation_config_message(coming)
    for path in paths:
        _copy(request.config, merged, path)
    if "mode" in paths and "segment_by" not in paths and merged.mode != experiment_pb2.SEGMENTATION_MODE_MANUAL:
        merged.ClearField("segment_by")
    config = validation.segmentation_config(merged, fields, "config")
    if stored := [violation for violation in fields.violations if not _is_sent(violation, paths)]:
        raise InvalidConfigurationError("; ".join(f"{each.field}: {each.description}" for each in stored))
    fields.check()
    return config


def _is_sent(violation: Violation, paths: list[str]) -> bool:
    """Whether the caller sent the field at fault: every other one is as it was stored."""
    name = violation.field.removeprefix("config.").partition("[")[0]
    return name in paths or (name == "segment_by" and "mode" in paths)


def _copy(source: Any, target: Any, name: str) -> None:
    if name == "segment_by":
        target.segment_by[:] = source.segment_by
    elif source.DESCRIPTOR.fields_by_name[name].has_presence and not source.HasField(name):
        target.ClearField(name)
    else:
        setattr(target, name, getattr(source, name))


def _mode(mode: SegmentationMode) -> experiment_pb2.SegmentationMode.ValueType:
    return experiment_pb2.SegmentationMode.Value(f"SEGMENTATION_MODE_{mode.value}")
