"""The writes of RecommendationService: accept and dismiss."""

import uuid

from samplit.admin.v1 import recommendation_service_pb2 as pb

from allocator.errors import InvalidFieldError, RecommendationNotFoundError, RecommendationStaleError
from allocator.experiment import Experiment
from server.api.admin.clustering.training_queue import TrainingQueue
from server.api.admin.recommendations.messages import recommendation_message
from server.api.admin.writes import Writes, locked_experiment
from server.api.authentication import caller
from server.api.fields import Fields
from server.clock import Clock
from server.recommendations.acceptance import accept_recommendation
from storage.postgres.operations import audit
from storage.postgres.pool import Connection
from storage.postgres.segmentation import recommendations
from storage.postgres.segmentation.recommendations import Recommendation, RecommendationState

_MOST_REASON = 512


class RecommendationCommands:
    """Accepts and dismisses recommendations for people."""

    def __init__(self, writes: Writes, training_queue: TrainingQueue, clock: Clock) -> None:
        self._writes = writes
        self._training_queue = training_queue
        self._clock = clock

    async def accept(self, request: pb.AcceptRecommendationRequest) -> pb.AcceptRecommendationResponse:
        """Accept and apply a recommendation.

        Raises RecommendationNotFoundError, RecommendationStaleError, StaleEtagError.
        """

        async def change(connection: Connection) -> tuple[Experiment, pb.AcceptRecommendationResponse]:
            found, experiment = await _locked(connection, request.recommendation_id, request.etag)
            if found.state is not RecommendationState.ACCEPTED:
                now = self._clock()
                if not await recommendations.holds(connection, found, experiment, now):
                    raise _stale(found)
                experiment = await accept_recommendation(connection, experiment, found, caller.get(), now)
            message = await _message(connection, found, experiment)
            return experiment, pb.AcceptRecommendationResponse(recommendation=message)

        answer = await self._writes(request, change, pb.AcceptRecommendationResponse)
        await self._training_queue.enqueue_waiting(answer.recommendation.experiment_id)
        return answer

    async def dismiss(self, request: pb.DismissRecommendationRequest) -> pb.DismissRecommendationResponse:
        """Dismiss a recommendation. Raises RecommendationNotFoundError, RecommendationStaleError."""
        fields = Fields()
        reason = fields.name("reason", request.reason, most=_MOST_REASON, breaks=True)
        fields.check()

        async def change(connection: Connection) -> tuple[Experiment, pb.DismissRecommendationResponse]:
            found, experiment = await _locked(connection, request.recommendation_id, "")
            if found.state is not RecommendationState.DISMISSED:
                if found.state is not RecommendationState.OPEN:
                    raise _stale(found)
                now, actor = self._clock(), caller.get()
                await recommendations.dismiss(connection, found.recommendation_id, actor, reason, now)
                what = {"recommendation_id": str(found.recommendation_id), "summary": found.proposal.summary}
                after = what | {"reason": reason}
                await audit.record(connection, experiment.number, actor, "recommendation.dismiss", {}, after, now)
            message = await _message(connection, found, experiment)
            return experiment, pb.DismissRecommendationResponse(recommendation=message)

        return await self._writes(request, change, pb.DismissRecommendationResponse)


def _parse(recommendation_id: str) -> uuid.UUID:
    """Parse a recommendation id. Raises InvalidFieldError."""
    try:
        return uuid.UUID(recommendation_id)
    except ValueError:
        raise InvalidFieldError.of("recommendation_id", f"must be a UUID, is {recommendation_id[:70]!r}") from None


async def _locked(connection: Connection, recommendation_id: str, etag: str) -> tuple[Recommendation, Experiment]:
    """Return a recommendation and its experiment, locked. Raises RecommendationNotFoundError, StaleEtagError."""
    identity = _parse(recommendation_id)
    found = await recommendations.get(connection, identity)
    if found is None:
        raise RecommendationNotFoundError(f"there is no recommendation {recommendation_id!r}")
    experiment = await locked_experiment(connection, found.experiment_id, etag)
    return await recommendations.get(connection, identity) or found, experiment


async def _message(connection: Connection, found: Recommendation, experiment: Experiment) -> pb.Recommendation:
    current = await recommendations.get(connection, found.recommendation_id) or found
    return recommendation_message(current, experiment)


def _stale(found: Recommendation) -> RecommendationStaleError:
    why = f"it is {found.state.value}"
    if found.state is RecommendationState.OPEN:
        why = "it has expired, or the experiment has changed since"
    return RecommendationStaleError(
        f"the recommendation cannot be decided any more: {why}", experiment_id=found.experiment_id
    )
