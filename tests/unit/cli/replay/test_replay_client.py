"""What a replay sends to a server, and what it makes of the answers, over real gRPC."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from google.rpc import code_pb2, status_pb2
from samplit.admin.v1 import experiment_pb2
from samplit.admin.v1 import experiment_service_pb2 as admin
from samplit.admin.v1 import experiment_service_pb2_grpc as admin_grpc
from samplit.allocation.v1 import allocation_service_pb2 as allocation
from samplit.allocation.v1 import allocation_service_pb2_grpc as allocation_grpc

from server.cli.replay import client as client_module
from server.cli.replay import retry
from server.cli.replay.client import Choice, ReplayClient
from server.cli.replay.errors import RefusedError, ReplayError
from server.cli.replay.log.columns import Columns
from server.cli.replay.log.users import LoggedUser
from server.cli.replay.plan import Plan

PLAN = Plan("run-1", "Run", {"a": "Arm A", "b": "Arm B"}, "a", ("source",), 50, 0.0)
COLUMNS = Columns("arm", "bought", None, {"utm_source": "src"}, {"plan": "tier"})
USERS = [LoggedUser(1, "u1", ("google", "pro"), "Arm A", True), LoggedUser(2, "u2", ("", ""), "Arm B", False)]
OK = allocation.AllocateUserResponse(
    variant_id="b",
    segment_key="source:google",
    segment_display_name="Google",
    reason=allocation.REASON_SAMPLED,
    assignment_state=allocation.ASSIGNMENT_STATE_NEW,
)
Item = allocation.AllocateUsersResponse.Item


class Script(admin_grpc.ExperimentServiceServicer, allocation_grpc.AllocationServiceServicer):
    """Gives the answers that a test has listed, the last one again and again."""

    def __init__(self) -> None:
        self.asked: list[object] = []
        self.answers: list[object] = []

    def answer(self, request: object, context: grpc.ServicerContext) -> object:
        self.asked.append(request)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, grpc.StatusCode):
            context.abort(answer, "as the test wants")
        return answer

    CreateExperiment = StartExperiment = GetExperimentResults = AllocateUsers = RecordConversions = answer


@pytest.fixture
def script() -> Script:
    return Script()


@pytest.fixture
def client(script: Script, monkeypatch: pytest.MonkeyPatch) -> Iterator[ReplayClient]:
    monkeypatch.setattr(retry, "_FIRST_DELAY", 0.001)
    monkeypatch.setattr(client_module, "_POLL_SECONDS", 0.001)
    server = grpc.server(ThreadPoolExecutor(2))
    admin_grpc.add_ExperimentServiceServicer_to_server(script, server)
    allocation_grpc.add_AllocationServiceServicer_to_server(script, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        experiments = admin_grpc.ExperimentServiceStub(channel)
        yield ReplayClient(experiments, allocation_grpc.AllocationServiceStub(channel), PLAN, COLUMNS)
    server.stop(None).wait()


def test_the_experiment_is_created_as_planned_and_started(script: Script, client: ReplayClient):
    script.answers = [admin.CreateExperimentResponse(), admin.StartExperimentResponse()]
    client.start()
    created = script.asked[0].experiment
    assert [(variant.variant_id, variant.name) for variant in created.variants] == [("a", "Arm A"), ("b", "Arm B")]
    assert created.segmentation.mode == experiment_pb2.SEGMENTATION_MODE_MANUAL
    assert (list(created.segmentation.segment_by), created.segmentation.min_samples_per_segment) == (["source"], 50)
    assert script.asked[1].experiment_id == created.experiment_id == "run-1"


def test_context_is_sent_without_what_is_unknown(script: Script, client: ReplayClient):
    script.answers = [allocation.AllocateUsersResponse(items=[Item(allocation=OK)] * 2)]
    assert client.allocate(USERS) == [Choice("Arm B", "source:google", "Google")] * 2
    known, unknown = script.asked[0].requests
    assert (known.user_identifier, known.web.utm_source, dict(known.attributes)) == ("u1", "google", {"plan": "pro"})
    assert unknown.HasField("web")
    assert (unknown.web.utm_source, dict(unknown.attributes)) == ("", {})


def test_a_restart_and_an_unreachable_store_are_waited_out(script: Script, client: ReplayClient):
    degraded = allocation.AllocateUserResponse(variant_id="a", reason=allocation.REASON_DEGRADED, assignment_state=3)
    script.answers = [
        grpc.StatusCode.UNAVAILABLE,
        allocation.AllocateUsersResponse(items=[Item(allocation=OK), Item(allocation=degraded)]),
        allocation.AllocateUsersResponse(
            items=[Item(status=status_pb2.Status(code=code_pb2.UNAVAILABLE)), Item(allocation=OK)]
        ),
        allocation.AllocateUsersResponse(items=[Item(allocation=OK)] * 2),
    ]
    assert len(client.allocate(USERS)) == 2
    assert [len(request.requests) for request in script.asked] == [2, 2, 2, 2]


def test_a_refused_item_and_an_unrecorded_user_end_the_replay(script: Script, client: ReplayClient):
    refused = Item(status=status_pb2.Status(code=code_pb2.INVALID_ARGUMENT, message="bad"))
    script.answers = [allocation.AllocateUsersResponse(items=[refused, refused])]
    with pytest.raises(RefusedError, match="bad"):
        client.allocate(USERS)
    bot = allocation.AllocateUserResponse(variant_id="a", reason=allocation.REASON_BOT, assignment_state=3)
    script.answers = [allocation.AllocateUsersResponse(items=[Item(allocation=OK), Item(allocation=bot)])]
    with pytest.raises(ReplayError, match="does not record user 'u2': BOT"):
        client.allocate(USERS)


def test_conversions_are_one_event_a_row(script: Script, client: ReplayClient):
    script.answers = [allocation.RecordConversionsResponse()]
    client.convert([])
    client.convert(USERS[:1])
    assert len(script.asked) == 1
    sent = script.asked[0].requests[0]
    assert (sent.experiment_id, sent.user_identifier, sent.event_id) == ("run-1", "u1", "row-1")


def test_a_lost_assignment_ends_the_replay(script: Script, client: ReplayClient):
    lost = allocation.RecordConversionResponse.Result(outcome=allocation.CONVERSION_OUTCOME_NO_ASSIGNMENT)
    item = allocation.RecordConversionsResponse.Item(results=[lost])
    script.answers = [allocation.RecordConversionsResponse(items=[item])]
    with pytest.raises(ReplayError, match="lost an assignment"):
        client.convert(USERS[:1])


def results(allocations: int, conversions: int, version: int) -> admin.GetExperimentResultsResponse:
    totals = [
        admin.VariantResult(variant_id="a", allocations=allocations),
        admin.VariantResult(variant_id="b", conversions=conversions),
    ]
    return admin.GetExperimentResultsResponse(totals=totals, posterior_version=version)


def test_learned_is_all_counted_and_a_newer_posterior(script: Script, client: ReplayClient):
    script.answers = [results(9, 3, 5), results(10, 2, 5), results(10, 3, 4), results(10, 3, 6)]
    assert client.wait_until_learned(10, 3, after_version=4) == 6
    assert len(script.asked) == 4


def test_a_server_that_does_not_learn_is_named(script: Script, client: ReplayClient, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(client_module, "_LEARNING_SECONDS", 0.01)
    script.answers = [results(9, 3, 4)]
    with pytest.raises(ReplayError, match=r"counted 9 of 10 users and 3 of 3 conversions, and serves posterior 4"):
        client.wait_until_learned(10, 3, after_version=4)
