"""Converts between the messages of samplit.allocation.v1 and the values of the use cases."""

import math
import re
from datetime import datetime

from samplit.allocation.v1 import allocation_service_pb2 as pb

from allocator.context import Email, Funnel, Push, Web
from server.allocation.allocate import AllocationRequest
from server.allocation.convert import ConversionRequest, ConversionResult
from server.api.fields import MOST_IDENTIFIER, Fields, is_slug

CHANNELS: dict[str, type[Web | Email | Funnel | Push]] = {"web": Web, "email": Email, "funnel": Funnel, "push": Push}
_MOST_EVENT_ID = 128
_CURRENCY = re.compile(r"[A-Z]{3}")


def allocation_request(message: pb.AllocateUserRequest, now: datetime) -> AllocationRequest:
    """Check a request. Raises InvalidFieldError, which names every field at fault."""
    experiment_id, user = message.experiment_id, message.user_identifier
    force, stamp = message.force_variant_id, message.HasField("event_time")
    if force or stamp or not is_slug(experiment_id) or not 0 < len(user) <= MOST_IDENTIFIER or "\0" in user:
        now = _checked_time(message, now)
    return AllocationRequest(experiment_id, user, _channel(message), message.attributes, int(now.timestamp()), force)


def _checked_time(message: pb.AllocateUserRequest, now: datetime) -> datetime:
    """Check the fields, and return the time of the decision. Raises InvalidFieldError."""
    fields = Fields()
    fields.slug("experiment_id", message.experiment_id)
    fields.text("user_identifier", message.user_identifier, least=1, most=MOST_IDENTIFIER)
    if message.force_variant_id:
        fields.slug("force_variant_id", message.force_variant_id)
    at = fields.event_time("event_time", message.event_time if message.HasField("event_time") else None, now)
    fields.check()
    return at


def conversion_request(message: pb.RecordConversionRequest, now: datetime) -> ConversionRequest:
    """Check a request. Raises InvalidFieldError, which names every field at fault."""
    fields = Fields()
    if bool(message.assignment_id) == bool(message.user_identifier):
        fields.wrong("assignment_id", "either this or user_identifier is required, not both")
    if message.assignment_id and message.experiment_id:
        fields.wrong("experiment_id", "goes with user_identifier; an assignment_id names its experiment")
    fields.text("assignment_id", message.assignment_id, most=64)
    fields.text("user_identifier", message.user_identifier, most=MOST_IDENTIFIER)
    if message.experiment_id:
        fields.slug("experiment_id", message.experiment_id)
    fields.text("event_id", message.event_id, least=1, most=_MOST_EVENT_ID)
    metric = fields.metric("metric", message.metric)
    if not math.isfinite(message.value):
        fields.wrong("value", "must be finite")
    if message.currency and not _CURRENCY.fullmatch(message.currency):
        fields.wrong("currency", 'must be an ISO 4217 code, such as "EUR"')
    at = fields.event_time("event_time", message.event_time if message.HasField("event_time") else None, now)
    fields.check()
    return ConversionRequest(
        assignment_id=message.assignment_id,
        user_identifier=message.user_identifier,
        experiment_id=message.experiment_id,
        event_id=message.event_id,
        metric=metric,
        value=message.value,
        currency=message.currency,
        at=at,
    )


def conversion_results(results: list[ConversionResult]) -> list[pb.RecordConversionResponse.Result]:
    """Return the outcomes as messages, one for each experiment."""
    return [
        pb.RecordConversionResponse.Result(
            experiment_id=result.experiment_id,
            outcome=pb.ConversionOutcome.Value(f"CONVERSION_OUTCOME_{result.outcome.name}"),
        )
        for result in results
    ]


def _channel(request: pb.AllocateUserRequest) -> Web | Email | Funnel | Push | None:
    """Return the context with the fields that are set."""
    name = request.WhichOneof("context")
    if name is None:
        return None
    fields = {field.name: value for field, value in getattr(request, name).ListFields()}
    return CHANNELS[name](**fields)
