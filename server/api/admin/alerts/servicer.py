"""AlertService: converts and delegates."""

import uuid
from typing import Any, TypeAlias

import grpc
from samplit.admin.v1 import alert_service_pb2 as pb
from samplit.admin.v1 import alert_service_pb2_grpc as pb_grpc

from allocator.errors import AlertNotFoundError, InvalidFieldError
from server.api.admin.messages import timestamp
from server.api.admin.page_tokens import PageTokens, page_size
from server.api.admin.reads import read_experiment
from server.api.authentication import caller
from server.clock import Clock
from storage.postgres.operations import alerts, audit
from storage.postgres.operations.alerts import Alert
from storage.postgres.pool import Pool

_Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"  # generic in the stubs only


class AlertServicer(pb_grpc.AlertServiceServicer):
    """Lists and acknowledges alerts."""

    def __init__(self, pool: Pool, clock: Clock, tokens: PageTokens) -> None:
        self._tokens = tokens
        self._pool = pool
        self._clock = clock

    async def ListAlerts(self, request: pb.ListAlertsRequest, _context: _Context) -> pb.ListAlertsResponse:
        size = page_size(request.page_size)
        listing = f"alerts/{request.experiment_id}/{request.open_only}"
        before = self._tokens.decode(request.page_token, listing)
        async with self._pool.acquire() as connection:
            experiment = await read_experiment(connection, request.experiment_id) if request.experiment_id else None
            found = await alerts.list_page(
                connection,
                experiment_number=None if experiment is None else experiment.number,
                open_only=request.open_only,
                before=before,
                limit=size + 1,
            )
        more = self._tokens.encode(found[size - 1].number, listing) if len(found) > size else ""
        return pb.ListAlertsResponse(alerts=[_message(alert) for alert in found[:size]], next_page_token=more)

    async def AcknowledgeAlert(
        self, request: pb.AcknowledgeAlertRequest, _context: _Context
    ) -> pb.AcknowledgeAlertResponse:
        alert_id = _alert_id(request.alert_id)
        actor, now = caller.get(), self._clock()
        async with self._pool.acquire() as connection, connection.transaction():
            found = await alerts.acknowledge(connection, alert_id, actor, now)
            if found is None:
                raise AlertNotFoundError(f"there is no alert {alert_id}", alert_id=str(alert_id))
            alert, is_new = found
            if is_new:
                what = {"alert_id": str(alert_id), "kind": alert.kind.value, "key": alert.key}
                await audit.record(connection, alert.experiment_number, actor, "alert.acknowledge", {}, what, now)
        return pb.AcknowledgeAlertResponse(alert=_message(alert))


def _alert_id(text: str) -> uuid.UUID:
    """Parse an alert id. Raises InvalidFieldError."""
    try:
        return uuid.UUID(text)
    except ValueError as error:
        raise InvalidFieldError.of("alert_id", f"must be the alert_id of an alert, is {text[:70]!r}") from error


def _message(alert: Alert) -> pb.Alert:
    return pb.Alert(
        alert_id=str(alert.alert_id),
        experiment_id=alert.experiment_id,
        kind=pb.AlertKind.Value(f"ALERT_KIND_{alert.kind.value}"),
        key=alert.key,
        summary=alert.summary,
        raised_at=timestamp(alert.raised_at),
        resolved_at=timestamp(alert.resolved_at),
        acknowledged_at=timestamp(alert.acknowledged_at),
        acknowledged_by=alert.acknowledged_by,
    )
