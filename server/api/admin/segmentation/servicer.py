"""SegmentationService: converts and delegates."""

from typing import Any, TypeAlias

import grpc
from samplit.admin.v1 import segmentation_service_pb2 as pb
from samplit.admin.v1 import segmentation_service_pb2_grpc as pb_grpc

from allocator.errors import InvalidFieldError
from allocator.segments import attribute_name, check_dimensions
from server.allocation.catalog import Catalog
from server.api.admin.page_tokens import PageTokens, page_size
from server.api.admin.reads import read_experiment
from server.api.admin.segmentation.commands import SegmentationCommands, segmentation_message
from server.api.admin.segmentation.messages import group_message, segment_messages
from server.api.fields import Fields
from server.clock import Clock
from storage.postgres.counts import audience, counts, traffic
from storage.postgres.pool import Pool, snapshot
from storage.postgres.segmentation import segmentations

_Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"  # generic in the stubs only
_MOST_GROUPS, _GROUPS = 500, 50
_MOST_DIMENSIONS = 2
_MOST_TEXT = 256


class SegmentationServicer(pb_grpc.SegmentationServiceServicer):
    """Shows and changes segmentations, segments and audiences."""

    def __init__(
        self, pool: Pool, commands: SegmentationCommands, catalog: Catalog, clock: Clock, tokens: PageTokens
    ) -> None:
        self._tokens = tokens
        self._pool = pool
        self._commands = commands
        self._catalog = catalog
        self._clock = clock

    async def GetSegmentationConfig(
        self, request: pb.GetSegmentationConfigRequest, _context: _Context
    ) -> pb.GetSegmentationConfigResponse:
        async with self._pool.acquire() as connection, snapshot(connection):
            experiment = await read_experiment(connection, request.experiment_id)
            pending = await segmentations.pending(connection, experiment.number)
        return pb.GetSegmentationConfigResponse(segmentation=segmentation_message(experiment, pending))

    async def UpdateSegmentationConfig(
        self, request: pb.UpdateSegmentationConfigRequest, _context: _Context
    ) -> pb.UpdateSegmentationConfigResponse:
        return await self._commands.update(request)

    async def ListSegments(self, request: pb.ListSegmentsRequest, _context: _Context) -> pb.ListSegmentsResponse:
        fields = Fields()
        fields.text("filter", request.filter, most=_MOST_TEXT)
        if request.order not in pb.SegmentOrder.values():
            fields.wrong("order", f"must be one of {', '.join(pb.SegmentOrder.keys()[1:])}")
        fields.check()
        size = page_size(request.page_size)
        listing = f"segments/{request.experiment_id}/{request.order}/{request.filter}"
        start = self._tokens.decode(request.page_token, listing) or 0
        async with self._pool.acquire() as connection:
            experiment = await read_experiment(connection, request.experiment_id)
            rows = await counts.segment_counts(
                connection, experiment.number, experiment.segmentation_version, self._clock()
            )
        tables = (await self._catalog.get(experiment.experiment_id)).tables
        found = segment_messages(experiment, rows, tables, request.order, request.filter)
        end = start + size
        return pb.ListSegmentsResponse(
            segments=found[start:end],
            next_page_token=self._tokens.encode(end, listing) if len(found) > end else "",
        )

    async def GetAudienceBreakdown(
        self, request: pb.GetAudienceBreakdownRequest, _context: _Context
    ) -> pb.GetAudienceBreakdownResponse:
        check_dimensions(request.dimensions, "dimensions", most=_MOST_DIMENSIONS)
        if request.limit < 0:
            raise InvalidFieldError.of("limit", f"must not be negative, is {request.limit}")
        limit = min(request.limit or _GROUPS, _MOST_GROUPS)
        names = [attribute_name(dimension) for dimension in request.dimensions]
        async with self._pool.acquire() as connection:
            experiment = await read_experiment(connection, request.experiment_id)
            groups = await audience.breakdown(connection, experiment.number, names, limit, self._clock())
            bots = await traffic.bot_requests(connection, experiment.number)
        response = pb.GetAudienceBreakdownResponse(bot_requests=bots)
        for group in groups:
            if group.values:
                response.groups.append(group_message(group))
            else:
                response.rest.CopyFrom(group_message(group))
        return response
