"""RecommendationService: converts and delegates."""

from contextlib import suppress
from typing import Any, TypeAlias

import asyncpg
import grpc
from samplit.admin.v1 import recommendation_service_pb2 as pb
from samplit.admin.v1 import recommendation_service_pb2_grpc as pb_grpc

from allocator.experiment import Experiment, SegmentationMode
from server.api.admin import page_tokens
from server.api.admin.clustering.training_queue import Trainings
from server.api.admin.messages import segmentation_config_message, timestamp
from server.api.admin.reads import read_experiment
from server.api.admin.recommendations.commands import RecommendationCommands
from server.api.admin.recommendations.messages import (
    check_message,
    metrics_message,
    proposal_message,
    recommendation_message,
)
from server.api.fields import Fields, check_slug
from server.clock import Clock
from server.recommendations.checker import Checker
from server.recommendations.measured_lift import measure_lift
from storage.postgres.counts import counts, traffic
from storage.postgres.experiments import posteriors
from storage.postgres.pool import Connection, snapshot
from storage.postgres.segmentation import cluster_models, recommendations, serving_state
from storage.postgres.segmentation.recommendations import RecommendationState
from storage.redis import streams
from storage.redis.client import UNREACHABLE, Client

_Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"  # generic in the stubs only


class RecommendationServicer(pb_grpc.RecommendationServiceServicer):
    """Checks, recommendations, and what segmenting brought."""

    def __init__(
        self,
        pool: asyncpg.Pool,
        redis: Client,
        shards: int,
        checker: Checker,
        commands: RecommendationCommands,
        trainings: Trainings,
        clock: Clock,
    ) -> None:
        """Reads from `pool`, decides through `checker` and `commands`; `shards` are those of the streams."""
        self._pool = pool
        self._redis = redis
        self._shards = shards
        self._checker = checker
        self._commands = commands
        self._trainings = trainings
        self._clock = clock

    async def CheckEligibility(
        self, request: pb.CheckEligibilityRequest, _context: _Context
    ) -> pb.CheckEligibilityResponse:
        """See the proto."""
        experiment_id = check_slug("experiment_id", request.experiment_id)
        if request.validate_only:
            checked = await self._checker.preview(experiment_id)
            found = [proposal_message(each, checked.experiment) for each in checked.proposals]
        else:
            checked = await self._checker.check(experiment_id)
            found = [recommendation_message(each, checked.experiment) for each in checked.recommendations]
            await self._trainings.tell(experiment_id)
        response = check_message(checked.eligibility, found, checked.action)
        async with self._pool.acquire() as connection:
            await self._add_freshness(connection, checked.experiment, response.freshness)
        return response

    async def ListRecommendations(
        self, request: pb.ListRecommendationsRequest, _context: _Context
    ) -> pb.ListRecommendationsResponse:
        """See the proto."""
        if request.state not in pb.RecommendationState.values():
            fields = Fields()
            fields.wrong("state", f"must be one of {', '.join(pb.RecommendationState.keys()[1:])}")
            fields.check()
        size = page_tokens.page_size(request.page_size)
        listing = f"recommendations/{request.experiment_id}/{request.state}"
        before = page_tokens.decode(request.page_token, listing)
        state = None
        if request.state:
            state = RecommendationState[
                pb.RecommendationState.Name(request.state).removeprefix("RECOMMENDATION_STATE_")
            ]
        async with self._pool.acquire() as connection, snapshot(connection):
            if request.experiment_id:
                await read_experiment(connection, request.experiment_id)
            found = await recommendations.list_page(
                connection, experiment_id=request.experiment_id or None, state=state, before=before, limit=size + 1
            )
            named: dict[str, Experiment] = {}
            for each in found:
                if each.experiment_id not in named:
                    named[each.experiment_id] = await read_experiment(connection, each.experiment_id)
        more = page_tokens.encode(found[size - 1].number, listing) if len(found) > size else ""
        return pb.ListRecommendationsResponse(
            recommendations=[recommendation_message(each, named[each.experiment_id]) for each in found[:size]],
            next_page_token=more,
        )

    async def AcceptRecommendation(
        self, request: pb.AcceptRecommendationRequest, _context: _Context
    ) -> pb.AcceptRecommendationResponse:
        """See the proto."""
        return await self._commands.accept(request)

    async def DismissRecommendation(
        self, request: pb.DismissRecommendationRequest, _context: _Context
    ) -> pb.DismissRecommendationResponse:
        """See the proto."""
        return await self._commands.dismiss(request)

    async def GetSegmentationMetrics(
        self, request: pb.GetSegmentationMetricsRequest, _context: _Context
    ) -> pb.GetSegmentationMetricsResponse:
        """See the proto."""
        async with self._pool.acquire() as connection, snapshot(connection):
            experiment = await read_experiment(connection, request.experiment_id)
            state = await serving_state.state(connection, experiment.number)
            message = pb.GetSegmentationMetricsResponse(
                mode=segmentation_config_message(experiment.segmentation).mode,
                serves_since=timestamp(state.serves_since),
            )
            if experiment.segmentation.mode is SegmentationMode.DISABLED:
                message.segments_count = 1
                message.basis = "it is not segmented"
                return message
            measured = await measure_lift(connection, experiment, state, self._clock())
            rows = await counts.segment_counts(
                connection, experiment.number, experiment.segmentation_version, self._clock()
            )
        metrics_message(experiment, measured, {row.segment: row.segment_key for row in rows}, message)
        return message

    async def _add_freshness(self, connection: Connection, experiment: Experiment, message: pb.Freshness) -> None:
        assigned, converted = await traffic.activity(connection, experiment.number)
        posterior = await posteriors.load(connection, experiment.number)
        state = await serving_state.state(connection, experiment.number)
        version = experiment.segmentation.model_version
        model = None if version is None else await cluster_models.models(connection, experiment.number, version=version)
        message.CopyFrom(
            pb.Freshness(
                last_assignment_at=timestamp(assigned),
                last_conversion_at=timestamp(converted),
                posterior_published_at=timestamp(posterior.published_at if posterior else None),
                model_trained_at=timestamp(model[0].trained_at if model else None),
                checked_at=timestamp(state.checked_at),
            )
        )
        with suppress(*UNREACHABLE):
            backlogs = [await streams.backlog(self._redis, shard) for shard in range(self._shards)]
            message.drain_lag_seconds = max(each.age for each in backlogs)
