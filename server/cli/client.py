"""Finds the running server and the API key that opens it, and calls its services.

On the server's own machine nothing needs to be given: a running server writes where it listens into its data directory,
and its first key is there too.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TypeVar

import grpc

from server.cli.bearer import BearerKey
from server.cli.errors import CommandError
from server.cli.problems import describe_call
from server.cli.settings import load_settings
from server.runtime.supervision.endpoints import read_endpoints
from server.settings import LOOPBACK

Stub = TypeVar("Stub")
_CHANNEL_OPTIONS = (("grpc.initial_reconnect_backoff_ms", 100), ("grpc.max_reconnect_backoff_ms", 1000))


class Plane(Enum):
    """The two ports of a server; the value is the environment variable that names its address."""

    ALLOCATION = "SAMPLIT_ADDRESS"
    ADMIN = "SAMPLIT_ADMIN_ADDRESS"


@dataclass(frozen=True)
class Target:
    """The host:port of a plane, the API key, and how to trust the server.

    certificates: those to trust; None means those of the system. server_name: the name in the server's certificate, if
    that is not the host.
    """

    address: str
    key: str
    is_tls: bool = False
    certificates: bytes | None = None
    server_name: str | None = None

    def __repr__(self) -> str:
        """Without the key."""
        return f"Target({self.address})"


def find_target(plane: Plane, address: str | None, data_dir: Path | None) -> Target:
    """Return the address that was given by option or variable (server.cli.options), else that of the data directory.

    Raises:
        CommandError: no address is known, or the key or the certificates cannot be read.
    """
    settings = load_settings(data_dir=data_dir)
    ca_file, server_name = settings.tls_ca_file, None
    is_tls = ca_file is not None
    if not address:
        endpoints = read_endpoints(settings.endpoints_file)
        if endpoints is None:
            raise CommandError(
                f"no server runs with the data directory {settings.data_dir}: start one with `samplit serve`, "
                f"or say where it listens with --address or {plane.value}"
            )
        address = endpoints.allocation if plane is Plane.ALLOCATION else endpoints.admin
        is_tls, server_name = is_tls or endpoints.tls, endpoints.tls_server_name
        ca_file = ca_file or (Path(endpoints.tls_ca_file) if endpoints.tls_ca_file else None)
    if not is_tls and not settings.allow_plaintext and _host(address) not in LOOPBACK:
        raise CommandError(
            f"the API key would travel to {address} in the clear: "
            "set SAMPLIT_TLS_CA_FILE, or SAMPLIT_ALLOW_PLAINTEXT=true"
        )
    certificates = _read(ca_file, "SAMPLIT_TLS_CA_FILE") if ca_file else None
    key = os.environ.get("SAMPLIT_API_KEY") or _read(settings.api_key_file, "SAMPLIT_API_KEY").decode().strip()
    return Target(address, key, is_tls, certificates, server_name)


@contextmanager
def open_service(
    stub: Callable[[grpc.Channel], Stub], address: str | None, data_dir: Path | None, plane: Plane = Plane.ADMIN
) -> Iterator[Stub]:
    """Yield the stub of a service, on a channel of its own that carries the API key.

    Raises:
        CommandError: the server was not found, or a call inside the block failed; says what the server answered.
    """
    target = find_target(plane, address, data_dir)
    channel = _open_channel(target)
    with channel:
        try:
            yield stub(grpc.intercept_channel(channel, BearerKey(target.key)))
        except grpc.RpcError as error:
            raise CommandError(describe_call(error, target.address)) from None


def _open_channel(target: Target) -> grpc.Channel:
    if not target.is_tls:
        return grpc.insecure_channel(target.address, _CHANNEL_OPTIONS)
    credentials = grpc.ssl_channel_credentials(target.certificates)
    options: tuple[tuple[str, str | int], ...] = _CHANNEL_OPTIONS
    if target.server_name is not None:
        options += (("grpc.ssl_target_name_override", target.server_name),)
    return grpc.secure_channel(target.address, credentials, options)


def _host(address: str) -> str:
    return address.rpartition(":")[0].strip("[]")


def _read(path: Path, variable: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CommandError(f"cannot read {path} ({error.strerror}); {variable} may name another") from None
