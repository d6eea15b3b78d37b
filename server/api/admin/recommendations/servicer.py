"""RecommendationService: converts and delegates."""

from typing import Any, TypeAlias

import grpc
from samplit.admin.v1 import recommendation_service_pb2 as pb
from samplit.admin.v1 import recommendation_service_pb2_grpc as pb_grpc

from allocator.errors import InvalidFieldError
from server.api.admin.clustering.training_queue import TrainingQueue
from server.api.admin.page_tokens import PageTokens, page_size
from server.api.admin.recommendations.commands import RecommendationCommands
from server.api.admin.recommendations.messages import (
    check_message,
    freshness_message,
    metrics_message,
    proposal_message,
    recommendation_message,
)
from server.api.admin.recommendations.reads import RecommendationReads
from server.api.fields import check_slug
from server.recommendations.checker import Checker
from storage.postgres.segmentation.recommendations import RecommendationState

_Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"  # generic in the stubs only


class RecommendationServicer(pb_grpc.RecommendationServiceServicer):
    """Checks, recommendations, and what segmenting brought."""

    def __init__(
        self,
        reads: RecommendationReads,
        commands: RecommendationCommands,
        checker: Checker,
        training_queue: TrainingQueue,
        tokens: PageTokens,
    ) -> None:
        self._tokens = tokens
        self._reads = reads
        self._commands = commands
        self._checker = checker
        self._training_queue = training_queue

    async def CheckEligibility(
        self, request: pb.CheckEligibilityRequest, _context: _Context
    ) -> pb.CheckEligibilityResponse:
        experiment_id = check_slug("experiment_id", request.experiment_id)
        if request.validate_only:
            checked = await self._checker.preview(experiment_id)
            found = [proposal_message(each, checked.experiment) for each in checked.proposals]
        else:
            checked = await self._checker.check(experiment_id)
            found = [recommendation_message(each, checked.experiment) for each in checked.recommendations]
            await self._training_queue.enqueue_waiting(experiment_id)
        response = check_message(checked.eligibility, found, checked.action)
        response.freshness.CopyFrom(freshness_message(await self._reads.freshness(checked.experiment)))
        return response

    async def ListRecommendations(
        self, request: pb.ListRecommendationsRequest, _context: _Context
    ) -> pb.ListRecommendationsResponse:
        size = page_size(request.page_size)
        listing = f"recommendations/{request.experiment_id}/{request.state}"
        found = await self._reads.list_page(
            experiment_id=request.experiment_id,
            state=_state(request.state),
            before=self._tokens.decode(request.page_token, listing),
            limit=size + 1,
        )
        more = self._tokens.encode(found[size - 1][0].number, listing) if len(found) > size else ""
        return pb.ListRecommendationsResponse(
            recommendations=[recommendation_message(each, experiment) for each, experiment in found[:size]],
            next_page_token=more,
        )

    async def AcceptRecommendation(
        self, request: pb.AcceptRecommendationRequest, _context: _Context
    ) -> pb.AcceptRecommendationResponse:
        return await self._commands.accept(request)

    async def DismissRecommendation(
        self, request: pb.DismissRecommendationRequest, _context: _Context
    ) -> pb.DismissRecommendationResponse:
        return await self._commands.dismiss(request)

    async def GetSegmentationMetrics(
        self, request: pb.GetSegmentationMetricsRequest, _context: _Context
    ) -> pb.GetSegmentationMetricsResponse:
        return metrics_message(await self._reads.segmentation_metrics(request.experiment_id))


def _state(value: pb.RecommendationState.ValueType) -> RecommendationState | None:
    """Return the state to filter by, or None. Raises InvalidFieldError."""
    if value not in pb.RecommendationState.values():
        raise InvalidFieldError.of("state", f"must be one of {', '.join(pb.RecommendationState.keys()[1:])}")
    if value == pb.RECOMMENDATION_STATE_UNSPECIFIED:
        return None
    return RecommendationState[pb.RecommendationState.Name(value).removeprefix("RECOMMENDATION_STATE_")]
