"""The file that tells where a running server listens. The supervisor writes it, and the CLI reads it."""

from pathlib import Path

import msgspec


class Endpoints(msgspec.Struct, frozen=True):
    """host:port of both planes and of the metrics, and the certificate to trust if the server speaks TLS."""

    allocation: str
    admin: str
    tls_certificate_file: str | None = None
    metrics: str | None = None


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
