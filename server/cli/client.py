"""Where the server is and which key opens it, for the commands that are its clients.

On the server's own machine nothing needs to be given: a running server says where it listens in its data directory,
and its first key is there too.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

import grpc
from pydantic import ValidationError
from samplit.admin.v1.alert_service_pb2_grpc import AlertServiceStub
from samplit.admin.v1.audit_service_pb2_grpc import AuditServiceStub
from samplit.admin.v1.clustering_service_pb2_grpc import ClusteringServiceStub
from samplit.admin.v1.experiment_service_pb2_grpc import ExperimentServiceStub
from samplit.admin.v1.recommendation_service_pb2_grpc import RecommendationServiceStub
from samplit.admin.v1.segmentation_service_pb2_grpc import SegmentationServiceStub
from samplit.allocation.v1.allocation_service_pb2_grpc import AllocationServiceStub

from server.cli.bearer import BearerKey
from server.cli.errors import CommandError
from server.cli.problems import describe_call
from server.runtime.endpoints import read_endpoints
from server.settings import LOOPBACK, Settings

_CHANNEL_OPTIONS = (("grpc.initial_reconnect_backoff_ms", 100), ("grpc.max_reconnect_backoff_ms", 1000))


class Plane(Enum):
    """The two ports of a server; the value is the variable that names its address."""

    ALLOCATION = "SAMPLIT_ADDRESS"
    ADMIN = "SAMPLIT_ADMIN_ADDRESS"


@dataclass(frozen=True)
class Target:
    """host:port of a plane, the key, and the certificates to trust; None is plaintext."""

    address: str
    key: str
    certificates: bytes | None

    def __repr__(self) -> str:
        """Without the key."""
        return f"Target({self.address})"


def find_target(plane: Plane, address: str | None, data_dir: Path | None) -> Target:
    """What is given (by option or variable: server.cli.options), else what the data directory says.

    Raises:
        CommandError: nothing says where the server is, or the key or the certificates cannot be read.
    """
    try:
        settings = Settings() if data_dir is None else Settings(data_dir=data_dir)
    except ValidationError as error:
        raise CommandError("; ".join(str(problem["msg"]) for problem in error.errors())) from None
    certificate_file = os.environ.get("SAMPLIT_TLS_CA_FILE")
    if not address:
        endpoints = read_endpoints(settings.endpoints_file)
        if endpoints is None:
            raise CommandError(
                f"no server runs with the data directory {settings.data_dir}: start one with `samplit serve`, "
                f"or say where it listens with --address or {plane.value}"
            )
        address = endpoints.allocation if plane is Plane.ALLOCATION else endpoints.admin
        certificate_file = certificate_file or endpoints.tls_certificate_file
    if not certificate_file and not settings.allow_plaintext and _host(address) not in LOOPBACK:
        raise CommandError(
            f"the API key would travel to {address} in the clear: "
            "set SAMPLIT_TLS_CA_FILE, or SAMPLIT_ALLOW_PLAINTEXT=true"
        )
    certificates = _read(Path(certificate_file), "SAMPLIT_TLS_CA_FILE") if certificate_file else None
    key = os.environ.get("SAMPLIT_API_KEY") or _read(settings.api_key_file, "SAMPLIT_API_KEY").decode().strip()
    return Target(address, key, certificates)


@contextmanager
def experiment_service(address: str | None, data_dir: Path | None) -> Iterator[ExperimentServiceStub]:
    """The control plane. Errors of calls inside leave as CommandError."""
    with _channel(find_target(Plane.ADMIN, address, data_dir)) as channel:
        yield ExperimentServiceStub(channel)


@contextmanager
def segmentation_service(address: str | None, data_dir: Path | None) -> Iterator[SegmentationServiceStub]:
    """Segments, on the control plane. Errors of calls inside leave as CommandError."""
    with _channel(find_target(Plane.ADMIN, address, data_dir)) as channel:
        yield SegmentationServiceStub(channel)


@contextmanager
def clustering_service(address: str | None, data_dir: Path | None) -> Iterator[ClusteringServiceStub]:
    """Clusters, on the control plane. Errors of calls inside leave as CommandError."""
    with _channel(find_target(Plane.ADMIN, address, data_dir)) as channel:
        yield ClusteringServiceStub(channel)


@contextmanager
def recommendation_service(address: str | None, data_dir: Path | None) -> Iterator[RecommendationServiceStub]:
    """Recommendations, on the control plane. Errors of calls inside leave as CommandError."""
    with _channel(find_target(Plane.ADMIN, address, data_dir)) as channel:
        yield RecommendationServiceStub(channel)


@contextmanager
def alert_service(address: str | None, data_dir: Path | None) -> Iterator[AlertServiceStub]:
    """Alerts, on the control plane. Errors of calls inside leave as CommandError."""
    with _channel(find_target(Plane.ADMIN, address, data_dir)) as channel:
        yield AlertServiceStub(channel)


@contextmanager
def audit_service(address: str | None, data_dir: Path | None) -> Iterator[AuditServiceStub]:
    """The audit, on the control plane. Errors of calls inside leave as CommandError."""
    with _channel(find_target(Plane.ADMIN, address, data_dir)) as channel:
        yield AuditServiceStub(channel)


@contextmanager
def allocation_service(address: str | None, data_dir: Path | None) -> Iterator[AllocationServiceStub]:
    """The data plane. Errors of calls inside leave as CommandError."""
    with _channel(find_target(Plane.ALLOCATION, address, data_dir)) as channel:
        yield AllocationServiceStub(channel)


@contextmanager
def _channel(target: Target) -> Iterator[grpc.Channel]:
    if target.certificates is None:
        channel = grpc.insecure_channel(target.address, _CHANNEL_OPTIONS)
    else:
        credentials = grpc.ssl_channel_credentials(target.certificates)
        channel = grpc.secure_channel(target.address, credentials, _CHANNEL_OPTIONS)
    with channel:
        try:
            yield grpc.intercept_channel(channel, BearerKey(target.key))
        except grpc.RpcError as error:
            raise CommandError(describe_call(error, target.address)) from None


def _host(address: str) -> str:
    return address.rpartition(":")[0].strip("[]")


def _read(path: Path, variable: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CommandError(f"cannot read {path} ({error.strerror}); {variable} may name another") from None
