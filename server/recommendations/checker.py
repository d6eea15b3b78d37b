"""Looks at an experiment, proposes what to do, and does it where it may."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import asyncpg
import structlog

from allocator.errors import ExperimentNotFoundError
from allocator.experiment import Experiment, SegmentationMode
from allocator.segmentation import Eligibility, Proposal, RecommendationKind
from server.alerts.report import report
from server.clock import Clock
from server.recommendations.apply import apply
from server.recommendations.findings import Findings, find
from server.recommendations.notices import tell_recommended
from server.recommendations.proposals import proposals
from storage.encryption import Secrets
from storage.postgres.experiments import experiments
from storage.postgres.operations import audit
from storage.postgres.operations.alerts import AlertKind
from storage.postgres.pool import Connection, snapshot
from storage.postgres.segmentation import recommendations, segmentations, serving_state
from storage.postgres.segmentation.recommendations import Recommendation
from storage.redis import publications
from storage.redis.client import UNREACHABLE, Client

log = structlog.get_logger()
_PATIENCE = timedelta(hours=1)  # until what was begun should serve


@dataclass(frozen=True)
class Checked:
    """What a check found. `proposed` would be, `open` is kept; `action` says what was done, if anything."""

    experiment: Experiment
    eligibility: Eligibility
    proposed: Sequence[Proposal]
    open: Sequence[Recommendation] = ()
    action: str = ""


class Checker:
    """Checks experiments, for people and for the schedule."""

    def __init__(self, pool: asyncpg.Pool, redis: Client, secrets: Secrets, clock: Clock) -> None:
        """Holds no state of its own."""
        self._pool = pool
        self._redis = redis
        self._secrets = secrets
        self._clock = clock

    async def look(self, experiment_id: str) -> Checked:
        """Change nothing. Raises ExperimentNotFoundError."""
        async with self._pool.acquire() as connection:
            found = await self._find(connection, experiment_id)
        return Checked(found.experiment, found.eligibility, proposals(found))

    async def check(self, experiment_id: str) -> Checked:
        """Propose, and act where auto_activation is on. Raises ExperimentNotFoundError."""
        async with self._pool.acquire() as connection:
            found = await self._find(connection, experiment_id)
            proposed = proposals(found)
            checked, wanted = await self._keep(connection, found, proposed)
            if wanted is None:
                await self._report(connection, checked.experiment, _stuck(found))
                return checked
            try:
                after = await self._act(connection, checked.experiment, wanted)
            except Exception as error:
                problem = f"could not {wanted.proposal.summary}: {type(error).__name__}, the worker's log has more"
                await self._report(connection, checked.experiment, problem)
                raise
            await self._report(connection, checked.experiment, None)
        if after is None:
            return checked
        await self._publish(after)
        log.info("segmentation changed by itself", done=wanted.proposal.summary, experiment=experiment_id)
        return replace(checked, experiment=after, action=wanted.proposal.summary)

    async def _find(self, connection: Connection, experiment_id: str) -> Findings:
        async with snapshot(connection):
            experiment = await experiments.get(connection, experiment_id)
            if experiment is None:
                raise ExperimentNotFoundError(experiment_id)
            return await find(connection, self._secrets, experiment, self._clock())

    async def _keep(
        self, connection: Connection, found: Findings, proposed: list[Proposal]
    ) -> tuple[Checked, Recommendation | None]:
        """Store what is proposed, unless the experiment is segmented otherwise by now; and what Samplit may do."""
        now = self._clock()
        wanted = None
        async with connection.transaction():
            experiment = await self._locked(connection, found.experiment)
            usual = await self._restored(connection, experiment, now)
            await serving_state.note_check(connection, experiment.experiment_id, now)
            if found.pending is not None or not await self._is_as(connection, experiment, found):
                return Checked(usual, found.eligibility, proposed), None
            kept, new = await recommendations.propose(connection, experiment, proposed, now)
            if experiment.segmentation.auto_activation:
                wanted = await self._own_choice(connection, experiment, kept)
            for each in new:
                if each is not wanted:
                    await tell_recommended(connection, experiment, each.proposal, now)
        if usual is not experiment:
            await self._publish(usual)
        return Checked(usual, found.eligibility, proposed, kept), wanted

    async def _restored(self, connection: Connection, experiment: Experiment, now: datetime) -> Experiment:
        """With the usual baseline share, once the time of a larger one is over."""
        state = await serving_state.state(connection, experiment.number)
        if state.baseline_share_after is None or state.baseline_share_until is None or state.baseline_share_until > now:
            return experiment
        await serving_state.plan_baseline(connection, experiment.number, None, None)
        usual = replace(experiment, baseline_share=state.baseline_share_after)
        was, now_is = {"baseline_share": experiment.baseline_share}, {"baseline_share": usual.baseline_share}
        await audit.record(connection, experiment.number, audit.SAMPLIT, "experiment.update", was, now_is, now)
        return await experiments.update(connection, usual, now)

    async def _is_as(self, connection: Connection, experiment: Experiment, found: Findings) -> bool:
        """Whether the experiment is still what was looked at."""
        then = found.experiment
        return (
            experiment.segmentation_version == then.segmentation_version
            and (experiment.state, experiment.variants) == (then.state, then.variants)
            and await segmentations.pending(connection, experiment.number) is None
        )

    async def _publish(self, experiment: Experiment) -> None:
        """What cannot be published now is by the reconciler, within seconds."""
        with suppress(*UNREACHABLE):
            await publications.publish_experiment(self._redis, experiment)

    async def _act(self, connection: Connection, experiment: Experiment, wanted: Recommendation) -> Experiment | None:
        """The experiment as it is then; None if it may not be done any more."""
        now = self._clock()
        async with connection.transaction():
            before = await self._locked(connection, experiment)
            may = before.segmentation.auto_activation
            if not may or not await recommendations.holds(connection, wanted, before, now):
                return None
            return await apply(connection, before, wanted, audit.SAMPLIT, now)

    async def _locked(self, connection: Connection, experiment: Experiment) -> Experiment:
        found = await experiments.get(connection, experiment.experiment_id, lock=True)
        if found is None:
            raise ExperimentNotFoundError(experiment.experiment_id)
        return found

    async def _own_choice(
        self, connection: Connection, experiment: Experiment, kept: Sequence[Recommendation]
    ) -> Recommendation | None:
        """What Samplit may do by itself, where it may. It takes back what was recommended; clusters it tries once."""
        origin = (await serving_state.state(connection, experiment.number)).recommendation_id
        for each in kept:
            match each.proposal.kind:
                case RecommendationKind.SEGMENT_BY:
                    return each
                case RecommendationKind.TURN_OFF if origin is not None:
                    return each
                case RecommendationKind.USE_CLUSTERS if experiment.segmentation.auto_clustering_enabled:
                    if not await recommendations.was_accepted(connection, experiment, each.proposal.kind):
                        return each
        return None

    async def _report(self, connection: Connection, experiment: Experiment, problem: str | None) -> None:
        async with connection.transaction():
            await report(connection, experiment, AlertKind.AUTO_ACTIVATION_FAILED, "", problem, self._clock())


def _stuck(found: Findings) -> str | None:
    """Why what Samplit wanted does not serve though it should by now."""
    pending = found.pending
    if pending is None or pending.actor != audit.SAMPLIT or found.now - pending.created_at < _PATIENCE:
        return None
    waits = pending.mode is SegmentationMode.AUTO and pending.model_version is None
    return f"still not segmented otherwise: {'clusters are not trained' if waits else 'history is not read again'}"
