"""AuditService: converts and delegates."""

from collections.abc import Sequence
from typing import Any, TypeAlias

import grpc
from google.protobuf.json_format import ParseDict
from samplit.admin.v1 import audit_service_pb2 as pb
from samplit.admin.v1 import audit_service_pb2_grpc as pb_grpc

from server.api.admin.messages import timestamp
from server.api.admin.page_tokens import PageTokens, page_size
from server.api.admin.reads import read_experiment
from server.api.fields import Fields
from storage.postgres.operations import audit
from storage.postgres.operations.audit import AuditEvent, AuditFilter
from storage.postgres.pool import Connection, Pool

_Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"  # generic in the stubs only
_MOST_TEXT = 64
_MOST_BYTES = 1024 * 1024  # of a page: contents of variants may be large


class AuditServicer(pb_grpc.AuditServiceServicer):
    """Lists who changed what."""

    def __init__(self, pool: Pool, tokens: PageTokens) -> None:
        self._tokens = tokens
        self._pool = pool

    async def ListAuditEvents(
        self, request: pb.ListAuditEventsRequest, _context: _Context
    ) -> pb.ListAuditEventsResponse:
        size = page_size(request.page_size)
        async with self._pool.acquire() as connection:
            wanted = await _filter(connection, request)
            listing = f"audit/{wanted}"
            before = self._tokens.decode(request.page_token, listing)
            found = await audit.list_page(connection, wanted, before=before, limit=size + 1)
        page = _page(found[:size])
        more = self._tokens.encode(found[len(page) - 1].number, listing) if len(found) > len(page) else ""
        return pb.ListAuditEventsResponse(events=page, next_page_token=more)


async def _filter(connection: Connection, request: pb.ListAuditEventsRequest) -> AuditFilter:
    """Check a filter. Raises InvalidFieldError, ExperimentNotFoundError."""
    fields = Fields()
    actor = fields.text("actor", request.actor, most=_MOST_TEXT)
    action = fields.text("action_prefix", request.action_prefix, most=_MOST_TEXT)
    since = fields.time("since", request.since if request.HasField("since") else None)
    until = fields.time("until", request.until if request.HasField("until") else None)
    if since is not None and until is not None and until <= since:
        fields.wrong("until", "must be later than since")
    fields.check()
    experiment = await read_experiment(connection, request.experiment_id) if request.experiment_id else None
    return AuditFilter(None if experiment is None else experiment.number, actor, action, since, until)


def _page(events: Sequence[AuditEvent]) -> list[pb.AuditEvent]:
    """Return the first events, as many as fit into one page; at least one."""
    page: list[pb.AuditEvent] = []
    room = _MOST_BYTES
    for event in events:
        message = _message(event)
        room -= message.ByteSize()
        if page and room < 0:
            break
        page.append(message)
    return page


def _message(event: AuditEvent) -> pb.AuditEvent:
    message = pb.AuditEvent(
        at=timestamp(event.at),
        actor=event.actor,
        actor_name=event.actor_name,
        action=event.action,
        experiment_id=event.experiment_id,
    )
    ParseDict(event.before, message.before)
    ParseDict(event.after, message.after)
    return message
