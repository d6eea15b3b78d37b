"""`samplit results`: what an experiment has counted, for each segment and variant."""

from rich.console import Console
from samplit.admin.v1.experiment_service_pb2 import GetExperimentResultsRequest
from samplit.admin.v1.experiment_service_pb2_grpc import ExperimentServiceStub

from server.cli.client import open_service
from server.cli.options import AdminAddress, DataDirectory, ExperimentId
from server.cli.views.results import conclusions, estimates_table, published_text, results_table


def show_results(experiment_id: ExperimentId, address: AdminAddress = None, data_dir: DataDirectory = None) -> None:
    """Show allocations and conversions for each segment and variant."""
    with open_service(ExperimentServiceStub, address, data_dir) as service:
        answer = service.GetExperimentResults(GetExperimentResultsRequest(experiment_id=experiment_id))
    console = Console()
    console.print(results_table(answer))
    console.print(estimates_table(answer))
    for line in conclusions(answer):
        console.print(line, highlight=False, markup=False)
    console.print(published_text(answer), style="dim")
