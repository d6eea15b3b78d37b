"""`samplit explain-assignment` and `explain`: why a user got a variant, and why an experiment is segmented or not."""

from typing import Annotated

import typer
from rich.console import Console
from samplit.admin.v1.clustering_service_pb2 import GetClusteringStatusRequest
from samplit.admin.v1.clustering_service_pb2_grpc import ClusteringServiceStub
from samplit.admin.v1.experiment_pb2 import SEGMENTATION_MODE_AUTO, SEGMENTATION_MODE_DISABLED
from samplit.admin.v1.experiment_service_pb2 import ExplainAssignmentRequest
from samplit.admin.v1.experiment_service_pb2_grpc import ExperimentServiceStub
from samplit.admin.v1.recommendation_service_pb2 import CheckEligibilityRequest, GetSegmentationMetricsRequest
from samplit.admin.v1.recommendation_service_pb2_grpc import RecommendationServiceStub
from samplit.admin.v1.segmentation_service_pb2 import GetSegmentationConfigRequest
from samplit.admin.v1.segmentation_service_pb2_grpc import SegmentationServiceStub

from server.cli.client import open_service
from server.cli.options import AdminAddress, DataDirectory, ExperimentId
from server.cli.views.assignment import because, explanation_fields, replayed
from server.cli.views.recommendations import explanation


def explain_assignment(
    experiment_id: ExperimentId,
    user: Annotated[str, typer.Argument(help="as given to AllocateUser", show_default=False)],
    address: AdminAddress = None,
    data_dir: DataDirectory = None,
) -> None:
    """Say why a user got the variant, and whether the log leads to it again."""
    request = ExplainAssignmentRequest(experiment_id=experiment_id, user_identifier=user)
    with open_service(ExperimentServiceStub, address, data_dir) as service:
        answer = service.ExplainAssignment(request)
    console = Console()
    console.print(because(user, answer), highlight=False, markup=False)
    console.print(explanation_fields(answer))
    console.print(replayed(answer), highlight=False, markup=False)


def explain_segmentation(
    experiment_id: ExperimentId, address: AdminAddress = None, data_dir: DataDirectory = None
) -> None:
    """Say why an experiment is or is not segmented, what would change it, and how fresh everything is."""
    with open_service(SegmentationServiceStub, address, data_dir) as segmentations:
        config_request = GetSegmentationConfigRequest(experiment_id=experiment_id)
        segmentation = segmentations.GetSegmentationConfig(config_request).segmentation
    with open_service(RecommendationServiceStub, address, data_dir) as service:
        check = service.CheckEligibility(CheckEligibilityRequest(experiment_id=experiment_id, validate_only=True))
        metrics = None
        if segmentation.config.mode != SEGMENTATION_MODE_DISABLED:
            metrics = service.GetSegmentationMetrics(GetSegmentationMetricsRequest(experiment_id=experiment_id))
    clusters = None
    if SEGMENTATION_MODE_AUTO in (segmentation.config.mode, segmentation.pending.mode):
        with open_service(ClusteringServiceStub, address, data_dir) as clustering:
            status_request = GetClusteringStatusRequest(experiment_id=experiment_id)
            clusters = clustering.GetClusteringStatus(status_request).summary
    Console().print(explanation(experiment_id, segmentation, check, metrics, clusters), highlight=False)
