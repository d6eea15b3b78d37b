"""Explains an assignment: what the log has of the decision, and the decision made again from the log."""

import asyncio

from samplit.admin.v1 import experiment_service_pb2 as pb
from samplit.allocation.v1 import allocation_service_pb2

from allocator.decision import Decision
from allocator.errors import AssignmentNotFoundError
from allocator.experiment import DecisionRules, Experiment, Group
from allocator.hashing import assignment_id, user_key
from allocator.posterior.effective_trials import Count
from allocator.redecide import LoggedDecision, agree, redecide
from allocator.segments import display_name
from server.api.admin.messages import timestamp
from server.api.admin.reads import read_experiment
from server.api.fields import MOST_IDENTIFIER, Fields
from storage.postgres.events import logged_decisions as stored
from storage.postgres.events.logged_decisions import LoggedAssignment
from storage.postgres.experiments import decision_rules
from storage.postgres.pool import Connection, Pool, snapshot

_DISAGREES = (
    "the log is not what it was when the decision was made, or a server of another release or architecture made it"
)


async def explain_assignment(
    pool: Pool, identity: bytes, request: pb.ExplainAssignmentRequest
) -> pb.ExplainAssignmentResponse:
    """Return the assignment, and whether the same decision comes out again.

    `identity` is the key of the hashes of users. Raises InvalidFieldError, ExperimentNotFoundError,
    AssignmentNotFoundError.
    """
    fields = Fields()
    fields.slug("experiment_id", request.experiment_id)
    fields.text("user_identifier", request.user_identifier, least=1, most=MOST_IDENTIFIER)
    fields.check()
    user = user_key(identity, request.user_identifier)
    async with pool.acquire() as connection, snapshot(connection):
        experiment = await read_experiment(connection, request.experiment_id)
        found = await stored.find(connection, experiment.number, user)
        if found is None:
            raise AssignmentNotFoundError(
                f"experiment {experiment.experiment_id!r} has no assignment of this user in store: one that was made "
                "just now may not be stored yet, and bots and previews have none",
                experiment_id=experiment.experiment_id,
            )
        rules = await decision_rules.as_of(connection, experiment.number, found.logged.revision)
        problem = _problem(experiment, found, rules)
        counts = [] if problem else await _counts(connection, experiment, found.logged)
    response = _response(experiment, found)
    response.assignment_id = assignment_id(identity, experiment.number, user).decode()
    if rules is None or problem:
        response.replay.problem = problem
    else:
        again = await asyncio.to_thread(redecide, experiment, rules, found.logged, counts)
        _add_replay(response.replay, experiment, again, found.logged.decision)
    return response


def _problem(experiment: Experiment, found: LoggedAssignment, rules: DecisionRules | None) -> str:
    """Return why the decision cannot be made again, or an empty text if it can."""
    version = found.logged.posterior_version
    if rules is None:
        return f"the configuration that it followed, r{found.logged.revision}, is older than what is kept of it"
    if not _asks_tables(found.logged):
        return ""
    if version < found.maturity_from:
        return f"the experiment's maturity was changed after posterior version {version}"
    if experiment.maturity_seconds:
        return f"the experiment has a maturity, so posterior version {version} depended on the moment it was made"
    return ""


def _asks_tables(logged: LoggedDecision) -> bool:
    """Return whether the decision depended on posterior tables. Version 0 has none, and the holdout ignores them."""
    return logged.posterior_version > 0 and logged.decision.group is not Group.HOLDOUT


async def _counts(connection: Connection, experiment: Experiment, logged: LoggedDecision) -> list[Count]:
    if not _asks_tables(logged):
        return []
    versions = logged.segmentation_version, logged.posterior_version
    return await stored.counts_as_of(connection, experiment.number, *versions)


def _add_replay(message: pb.AssignmentReplay, experiment: Experiment, again: Decision, logged: Decision) -> None:
    message.variant_id = _variant(experiment, again.variant).variant_id
    message.propensity = again.propensity
    message.agrees = agree(again, logged)
    if not message.agrees:
        message.problem = _DISAGREES


def _response(experiment: Experiment, found: LoggedAssignment) -> pb.ExplainAssignmentResponse:
    logged = found.logged
    decision = logged.decision
    return pb.ExplainAssignmentResponse(
        variant=_variant(experiment, decision.variant),
        answered_segment=_segment(experiment, found.segment_key),
        credited_segment=_segment(experiment, found.credited_key),
        reason=allocation_service_pb2.Reason.Value(f"REASON_{decision.reason.name}"),
        group=pb.AssignmentGroup.Value(f"ASSIGNMENT_GROUP_{decision.group.name}"),
        segmentation_version=logged.segmentation_version,
        posterior_version=logged.posterior_version,
        config_revision=logged.revision,
        assigned_at=timestamp(found.assigned_at),
        converted=found.is_success,
        converted_at=timestamp(found.converted_at),
        context=found.context,
        propensities=pb.Propensities(
            drawn=decision.propensity,
            marginal=decision.marginal,
            q_segment=decision.q_segment,
            q_global=decision.q_global,
        ),
    )


def _variant(experiment: Experiment, number: int) -> pb.AssignedVariant:
    variant = next(each for each in experiment.variants if each.number == number)
    return pb.AssignedVariant(variant_id=variant.variant_id, name=variant.name, retired=variant.retired)


def _segment(experiment: Experiment, key: str) -> pb.SegmentName:
    return pb.SegmentName(segment_key=key, segment_display_name=display_name(key, experiment.cluster_names))
