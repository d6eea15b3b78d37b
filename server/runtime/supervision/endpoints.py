"""The file that tells where a running server listens. The supervisor writes it, and the CLI reads it."""

from pathlib import Path

import msgspec


class Endpoints(msgspec.Struct, frozen=True):
    """Where clients on this machine connect: host:port of both planes and of the metrics.

    tls_ca_file: the certificates to trust; None with TLS means those of the system. tls_server_name: the name in the
    certificate, where that is not the host; None means the host.
    """

    allocation: str
    admin: str
    tls: bool = False
    tls_ca_file: str | None = None
    tls_server_name: str | None = None
    metrics: str | None = None


def connectable(host: str) -> str:
    """Return a host to connect to for a host to listen on: loopback, if that is every address of the machine."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 (it is not listened on)


def join_host(host: str, port: int) -> str:
    """Return host:port, with an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def write_endpoints(path: Path, endpoints: Endpoints) -> None:
    """Replace the file as a whole."""
    temporary = path.with_suffix(".new")
    temporary.write_bytes(msgspec.json.encode(endpoints))
    temporary.replace(path)


def read_endpoints(path: Path) -> Endpoints | None:
    """Return what a server wrote, or None."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Endpoints)
    except (OSError, msgspec.MsgspecError):
        return None
