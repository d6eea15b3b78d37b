"""The running server, as a replay uses it.

Every call but the creation may be repeated without effect: a user keeps the variant, and an event counts once.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import uuid4

from google.protobuf import json_format
from google.rpc import code_pb2, status_pb2
from samplit.admin.v1 import experiment_service_pb2 as admin
from samplit.admin.v1.experiment_service_pb2_grpc import ExperimentServiceStub
from samplit.allocation.v1 import allocation_service_pb2 as allocation
from samplit.allocation.v1.allocation_service_pb2_grpc import AllocationServiceStub
from samplit.allocation.v1.context_pb2 import WebContext

from server.cli.replay.errors import RefusedError, ReplayError
from server.cli.replay.log.columns import Columns
from server.cli.replay.log.users import LoggedUser
from server.cli.replay.plan import Plan
from server.cli.replay.retry import with_retries

_POLL_SECONDS = 0.03
_LEARNING_SECONDS = 30.0


@dataclass(frozen=True)
class Choice:
    """What the server decided for a user: the variant as the log names it, and the segment's key and display name."""

    variant: str
    segment_key: str
    segment_name: str


class ReplayClient:
    """Calls the server for the one experiment of a plan, which `start` creates."""

    def __init__(
        self, experiments: ExperimentServiceStub, allocations: AllocationServiceStub, plan: Plan, columns: Columns
    ) -> None:
        self._experiments = experiments
        self._allocations = allocations
        self._plan = plan
        self._columns = columns

    def start(self) -> None:
        """Create and start the experiment. The creation is not retried, so that without a server nobody has to wait."""
        self._experiments.CreateExperiment(admin.CreateExperimentRequest(experiment=self._plan.to_experiment()))
        request = admin.StartExperimentRequest(experiment_id=self._plan.experiment_id, request_id=uuid4().hex)
        with_retries(lambda: self._experiments.StartExperiment(request))

    def allocate(self, users: Sequence[LoggedUser]) -> list[Choice]:
        """Return the server's choice for each user, in their order. Raises RefusedError, ReplayError, grpc.RpcError."""
        request = allocation.AllocateUsersRequest(requests=[self._request(user) for user in users])
        return with_retries(lambda: self._choices(request))

    def convert(self, users: Sequence[LoggedUser]) -> None:
        """Record a conversion of each user. Raises RefusedError, ReplayError, grpc.RpcError."""
        requests = [
            allocation.RecordConversionRequest(
                user_identifier=user.user, experiment_id=self._plan.experiment_id, event_id=f"row-{user.row}"
            )
            for user in users
        ]
        if requests:
            with_retries(lambda: self._record(allocation.RecordConversionsRequest(requests=requests)))

    def wait_until_learned(self, allocations: int, conversions: int, after_version: int) -> int:
        """Wait until the server has counted so much and serves a later posterior; return the version of that posterior.

        Raises:
            ReplayError: it did not within 30 seconds.
        """
        request = admin.GetExperimentResultsRequest(
            experiment_id=self._plan.experiment_id, view=admin.RESULTS_VIEW_COUNTS
        )
        deadline = time.monotonic() + _LEARNING_SECONDS
        while True:
            asked_at = time.monotonic()
            results = with_retries(lambda: self._experiments.GetExperimentResults(request))
            answered_at = time.monotonic()
            deadline += max(0.0, answered_at - asked_at - 1.0)  # a restart does not count as slow learning
            counted = sum(total.allocations for total in results.totals)
            converted = sum(total.conversions for total in results.totals)
            if counted >= allocations and converted >= conversions and results.posterior_version > after_version:
                return results.posterior_version
            if answered_at > deadline:
                raise ReplayError(
                    f"the server did not learn within {_LEARNING_SECONDS:.0f} seconds: it counted {counted} of "
                    f"{allocations} users and {converted} of {conversions} conversions, and serves posterior "
                    f"{results.posterior_version}; its log may say why"
                )
            time.sleep(_POLL_SECONDS)

    def _request(self, user: LoggedUser) -> allocation.AllocateUserRequest:
        values = dict(zip(self._columns.context, user.cell, strict=True))
        request = allocation.AllocateUserRequest(
            experiment_id=self._plan.experiment_id,
            user_identifier=user.user,
            attributes=_known(self._columns.attributes, values),
        )
        if self._columns.web:
            request.web.CopyFrom(json_format.ParseDict(_known(self._columns.web, values), WebContext()))
        return request

    def _choices(self, request: allocation.AllocateUsersRequest) -> list[Choice]:
        response = self._allocations.AllocateUsers(request)
        for item, asked in zip(response.items, request.requests, strict=True):
            if item.status.code:
                raise RefusedError(item.status)
            if item.allocation.reason == allocation.REASON_DEGRADED:
                raise RefusedError(status_pb2.Status(code=code_pb2.UNAVAILABLE, message="the store is out of reach"))
            if item.allocation.assignment_state == allocation.ASSIGNMENT_STATE_NONE:
                reason = allocation.Reason.Name(item.allocation.reason).removeprefix("REASON_")
                raise ReplayError(f"the server does not record user {asked.user_identifier!r}: {reason}")
        return [
            Choice(
                self._plan.variants[item.allocation.variant_id],
                item.allocation.segment_key,
                item.allocation.segment_display_name,
            )
            for item in response.items
        ]

    def _record(self, request: allocation.RecordConversionsRequest) -> None:
        for item in self._allocations.RecordConversions(request).items:
            if item.status.code:
                raise RefusedError(item.status)
            for result in item.results:
                if result.outcome == allocation.CONVERSION_OUTCOME_NO_ASSIGNMENT:
                    raise ReplayError("the server lost an assignment: a user whom it allocated is unknown to it")


def _known(columns: Mapping[str, str], values: Mapping[str, str]) -> dict[str, str]:
    """Return the values by field or attribute name. Empty values are left out, because they are unknown."""
    return {name: values[column] for name, column in columns.items() if values[column]}
