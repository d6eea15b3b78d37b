"""Composes the control plane: one small builder for each service."""

from dataclasses import dataclass

import grpc
from samplit.admin.v1 import (
    alert_service_pb2,
    audit_service_pb2,
    clustering_service_pb2,
    experiment_service_pb2,
    recommendation_service_pb2,
    segmentation_service_pb2,
)
from samplit.admin.v1.alert_service_pb2_grpc import add_AlertServiceServicer_to_server
from samplit.admin.v1.audit_service_pb2_grpc import add_AuditServiceServicer_to_server
from samplit.admin.v1.clustering_service_pb2_grpc import add_ClusteringServiceServicer_to_server
from samplit.admin.v1.experiment_service_pb2_grpc import add_ExperimentServiceServicer_to_server
from samplit.admin.v1.recommendation_service_pb2_grpc import add_RecommendationServiceServicer_to_server
from samplit.admin.v1.segmentation_service_pb2_grpc import add_SegmentationServiceServicer_to_server

from server.allocation.catalog import Catalog
from server.api.admin.alerts.servicer import AlertServicer
from server.api.admin.audit.servicer import AuditServicer
from server.api.admin.clustering.commands import ClusteringCommands
from server.api.admin.clustering.servicer import ClusteringServicer
from server.api.admin.clustering.training_queue import TrainingQueue
from server.api.admin.experiments.commands import ExperimentCommands
from server.api.admin.experiments.servicer import ExperimentServicer
from server.api.admin.page_tokens import PageTokens
from server.api.admin.recommendations.commands import RecommendationCommands
from server.api.admin.recommendations.reads import RecommendationReads
from server.api.admin.recommendations.servicer import RecommendationServicer
from server.api.admin.segmentation.commands import SegmentationCommands
from server.api.admin.segmentation.servicer import SegmentationServicer
from server.api.admin.writes import Writes
from server.clock import Clock
from server.recommendations.checker import Checker
from storage.encryption import Secrets
from storage.postgres.pool import Pool
from storage.redis.client import Client

SERVICES = tuple(
    service.full_name
    for file in (
        experiment_service_pb2,
        segmentation_service_pb2,
        clustering_service_pb2,
        recommendation_service_pb2,
        alert_service_pb2,
        audit_service_pb2,
    )
    for service in file.DESCRIPTOR.services_by_name.values()
)

SCOPES = dict.fromkeys(SERVICES, "admin")


@dataclass(frozen=True)
class ControlPlane:
    """What the services of the control plane share."""

    pool: Pool
    redis: Client
    shards: int
    catalog: Catalog
    secrets: Secrets
    training_queue: TrainingQueue
    clock: Clock

    @property
    def writes(self) -> Writes:
        """Carries out the writes of every service."""
        return Writes(self.pool, self.redis, self.secrets, self.catalog, self.clock)

    @property
    def tokens(self) -> PageTokens:
        """The page tokens of every list."""
        return PageTokens(self.secrets.identity)

    def add_to(self, server: grpc.aio.Server) -> None:
        """Register every service."""
        add_ExperimentServiceServicer_to_server(self._experiments(), server)
        add_SegmentationServiceServicer_to_server(self._segmentation(), server)
        add_ClusteringServiceServicer_to_server(self._clustering(), server)
        add_RecommendationServiceServicer_to_server(self._recommendations(), server)
        add_AlertServiceServicer_to_server(AlertServicer(self.pool, self.clock, self.tokens), server)
        add_AuditServiceServicer_to_server(AuditServicer(self.pool, self.tokens), server)

    def _experiments(self) -> ExperimentServicer:
        commands = ExperimentCommands(self.writes, self.secrets, self.clock)
        return ExperimentServicer(self.pool, commands, self.catalog, self.secrets.identity, self.clock, self.tokens)

    def _segmentation(self) -> SegmentationServicer:
        commands = SegmentationCommands(self.writes, self.training_queue, self.clock)
        return SegmentationServicer(self.pool, commands, self.catalog, self.clock, self.tokens)

    def _clustering(self) -> ClusteringServicer:
        commands = ClusteringCommands(self.pool, self.writes, self.training_queue, self.secrets, self.clock)
        return ClusteringServicer(self.pool, commands, self.secrets, self.clock, self.tokens)

    def _recommendations(self) -> RecommendationServicer:
        return RecommendationServicer(
            RecommendationReads(self.pool, self.redis, self.shards, self.clock),
            RecommendationCommands(self.writes, self.training_queue, self.clock),
            Checker(self.pool, self.redis, self.secrets, self.clock),
            self.training_queue,
            self.tokens,
        )
