"""The commands against a server that answers from a script, over real gRPC."""

import gzip
import io
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
from google.protobuf import any_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status
from rich.console import Console
from samplit.admin.v1 import experiment_pb2, experiment_service_pb2
from samplit.admin.v1.experiment_service_pb2_grpc import (
    ExperimentServiceServicer,
    add_ExperimentServiceServicer_to_server,
)

from server.cli import main
from server.cli.client import Plane, find_target
from server.cli.commands.experiments import parse_variant
from server.cli.durations import parse_seconds
from server.cli.errors import CommandError
from server.cli.problems import describe_status
from server.cli.views.results import results_table
from server.runtime.supervision.endpoints import Endpoints, write_endpoints


class Script(ExperimentServiceServicer):
    """Refuses to start "bad", and keeps what it was asked."""

    def __init__(self) -> None:
        self.requests: list[object] = []
        self.keys: list[object] = []

    def CreateExperiment(self, request, context):  # noqa: N802
        self.requests.append(request)
        self.keys.append(dict(context.invocation_metadata())["authorization"])
        created = experiment_pb2.Experiment(experiment_id=request.experiment.experiment_id or "made")
        return experiment_service_pb2.CreateExperimentResponse(experiment=created)

    def StartExperiment(self, request, context):  # noqa: N802
        self.requests.append(request)
        if request.experiment_id == "bad":
            context.abort_with_status(rpc_status.to_status(refusal()))
        return experiment_service_pb2.StartExperimentResponse()

    def ListExperiments(self, request, context):  # noqa: N802
        self.requests.append(experiment_service_pb2.ListExperimentsRequest.FromString(request.SerializeToString()))
        page = int(request.page_token or 0)
        experiments = [experiment_pb2.Experiment(experiment_id=f"[e{page}]", name="[bold]", state=2)]
        token = str(page + 1) if page < 2 else ""
        return experiment_service_pb2.ListExperimentsResponse(experiments=experiments, next_page_token=token)


def refusal() -> status_pb2.Status:
    """Two violations, of which the message says one."""
    details = any_pb2.Any()
    violations = [
        error_details_pb2.BadRequest.FieldViolation(field=field, description="must be good") for field in ("a", "b")
    ]
    details.Pack(error_details_pb2.BadRequest(field_violations=violations))
    return status_pb2.Status(code=code_pb2.INVALID_ARGUMENT, message="a: must be good", details=[details])


@pytest.fixture
def data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty data directory, and none of the variables that override it."""
    for name in ("ADDRESS", "ADMIN_ADDRESS", "API_KEY", "TLS_CA_FILE", "DATA_DIR", "ALLOW_PLAINTEXT"):
        monkeypatch.delenv(f"SAMPLIT_{name}", raising=False)
    return tmp_path


@pytest.fixture
def script(data_dir: Path) -> Iterator[Script]:
    """A server that the data directory leads to."""
    servicer = Script()
    server = grpc.server(ThreadPoolExecutor(2))
    add_ExperimentServiceServicer_to_server(servicer, server)
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    (data_dir / "secrets").mkdir()
    (data_dir / "secrets" / "api.key").write_text("samplit_1_secret\n")
    write_endpoints(data_dir / "server.json", Endpoints(allocation=address, admin=address))
    yield servicer
    server.stop(None).wait()


@pytest.fixture
def samplit(data_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Runs the command; answers status, stdout and stderr."""

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["samplit", *arguments, "--data-dir", str(data_dir)])
        with pytest.raises(SystemExit) as ended:
            main()
        written = capsys.readouterr()
        return int(ended.value.code or 0), written.out, written.err

    return run


def test_create_sends_what_the_options_say_with_the_key_of_the_data_directory(script: Script, samplit):
    status, out, _ = samplit(
        "experiments", "create", "Homepage", "--variant", 'Control={"text": "Buy"}', "--variant", "B",
        "--segment-by", "source", "--segment-by", "attributes.plan", "--min-samples", "0",
        "--maturity", "7d", "--start",
    )  # fmt: skip
    assert (status, out) == (0, "made is RUNNING\n")
    sent = script.requests[0].experiment
    assert [variant.name for variant in sent.variants] == ["Control", "B"]
    assert dict(sent.variants[0].content) == {"text": "Buy"}
    assert sent.segmentation.mode == experiment_pb2.SEGMENTATION_MODE_MANUAL
    assert list(sent.segmentation.segment_by) == ["source", "attributes.plan"]
    assert sent.segmentation.HasField("min_samples_per_segment")
    assert not sent.HasField("baseline_share")
    assert (sent.maturity.seconds, sent.auto_maturity) == (7 * 86_400, False)
    assert script.requests[1].experiment_id == "made"
    assert script.keys == ["Bearer samplit_1_secret"]


def test_list_reads_all_pages_and_takes_no_text_as_markup(script: Script, samplit):
    status, out, _ = samplit("experiments", "list", "--state", "running")
    assert status == 0
    assert all(f"[e{page}]" in out for page in range(3))
    assert out.count("[bold]") == 3
    assert [(request.page_token, request.state) for request in script.requests] == [("", 2), ("1", 2), ("2", 2)]


def test_a_refusal_shows_code_message_and_violations_without_a_traceback(script: Script, samplit):
    status, out, err = samplit("experiments", "start", "bad")
    assert (status, out) == (1, "")
    assert err == "samplit: INVALID_ARGUMENT: a: must be good\n  b: must be good\n"
    assert describe_status(refusal()) == err.removeprefix("samplit: ").rstrip()


def test_without_a_server_there_is_one_line(data_dir: Path, samplit):
    status, _, err = samplit("results", "x")
    assert status == 1
    assert err.startswith(f"samplit: no server runs with the data directory {data_dir}")
    assert err.count("\n") == 1


def test_a_server_that_is_gone_is_one_line(data_dir: Path, samplit, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SAMPLIT_API_KEY", "k")
    write_endpoints(data_dir / "server.json", Endpoints(allocation="127.0.0.1:1", admin="127.0.0.1:1"))
    status, _, err = samplit("results", "x")
    assert status == 1
    assert err.startswith("samplit: no server answers at 127.0.0.1:1 (UNAVAILABLE: ")
    assert err.count("\n") == 1


def test_a_missing_key_file_is_one_line(data_dir: Path, samplit):
    write_endpoints(data_dir / "server.json", Endpoints(allocation="127.0.0.1:1", admin="127.0.0.1:1"))
    status, _, err = samplit("results", "x")
    assert status == 1
    assert "api.key (No such file or directory); SAMPLIT_API_KEY may name another" in err


def test_option_then_variable_then_data_directory(data_dir: Path, samplit, monkeypatch: pytest.MonkeyPatch):
    write_endpoints(data_dir / "server.json", Endpoints(allocation="127.0.0.1:1", admin="127.0.0.1:2"))
    monkeypatch.setenv("SAMPLIT_API_KEY", "secret")
    assert find_target(Plane.ALLOCATION, None, data_dir).address == "127.0.0.1:1"
    assert find_target(Plane.ADMIN, None, data_dir).address == "127.0.0.1:2"
    assert find_target(Plane.ADMIN, "[::1]:4", data_dir).address == "[::1]:4"
    assert "secret" not in repr(find_target(Plane.ADMIN, None, data_dir))
    monkeypatch.setenv("SAMPLIT_ADMIN_ADDRESS", "localhost:3")
    assert "at localhost:3 (" in samplit("results", "x")[2]
    assert "at 127.0.0.1:4 (" in samplit("results", "x", "--address", "127.0.0.1:4")[2]


def test_a_key_is_not_sent_in_the_clear_to_another_machine(data_dir: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SAMPLIT_API_KEY", "k")
    with pytest.raises(CommandError, match="in the clear"):
        find_target(Plane.ADMIN, "example.com:50052", data_dir)
    (data_dir / "ca.pem").write_text("PEM")
    monkeypatch.setenv("SAMPLIT_TLS_CA_FILE", str(data_dir / "ca.pem"))
    assert find_target(Plane.ADMIN, "example.com:50052", data_dir).certificates == b"PEM"


def test_durations_have_a_unit():
    assert [parse_seconds(text) for text in ("0", "90s", "30m", "12h", "7d")] == [0, 90, 1_800, 43_200, 604_800]
    for text in ("7", "-1d", "1.5h", "automatic", "1d12h"):
        with pytest.raises(CommandError, match="is no duration"):
            parse_seconds(text)


def test_a_variant_is_a_name_with_or_without_an_object():
    assert parse_variant(" B ").name == "B"
    assert dict(parse_variant('B={"a": "x=y"}').content) == {"a": "x=y"}
    for text in ("B=[1]", "B={", "B="):
        with pytest.raises(CommandError, match="variant 'B' is no JSON object"):
            parse_variant(text)


def test_results_show_learning_segments_and_all_at_80_columns():
    result = experiment_service_pb2.VariantResult
    answer = experiment_service_pb2.GetExperimentResultsResponse(
        segments=[
            experiment_service_pb2.SegmentResult(
                segment_key="source:instagram|device:mobile",
                segment_display_name="Instagram · Mobile",
                allocations=41,
                trials=37,
                min_samples=100,
                variants=[result(name="Control", allocations=37, conversions=4, rate=4 / 37), result(name="[b]A")],
            )
        ],
        totals=[result(name="Control", allocations=1234567, conversions=4, rate=4 / 37)],
    )
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(results_table(answer))
    lines = console.export_text().splitlines()
    assert max(map(len, lines)) <= 80
    assert any("Instagram · Mobile (37 of 100)" in line and "10.8%" in line for line in lines)
    assert any("[b]A" in line and line.rstrip().endswith("–") for line in lines)
    assert any(line.split()[:3] == ["All", "Control", "1,234,567"] for line in lines)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--demo", "--variant", "v"], "--demo brings its own log"),
        (["--variant", "v"], "a replay needs FILE, --variant and --outcome, or --demo"),
        (["log.csv", "--variant", "v", "--outcome", "o", "--compare"], "--compare needs --segment-by"),
        (["log.csv", "--variant", "v", "--outcome", "o", "--web", "x=y"], "--web takes FIELD=COLUMN"),
    ],
)
def test_replay_says_what_its_options_lack(samplit, arguments: list[str], message: str):
    status, _, err = samplit("replay", *arguments)
    assert status == 1
    assert err.startswith(f"samplit: {message}")


def test_replay_reads_its_file_before_it_needs_a_server(data_dir: Path, samplit):
    path = data_dir / "log.csv.gz"
    path.write_bytes(gzip.compress(b"arm,bought\nA,1\nA,0\n"))
    status, _, err = samplit("replay", str(path), "--variant", "arm", "--outcome", "bought")
    assert (status, err) == (1, "samplit: column 'arm' holds one variant only, 'A'; a replay needs two\n")
