"""Certificates for tests, made by openssl."""

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True)
class Pair:
    """The files of a certificate and its key."""

    certificate: Path
    key: Path


def openssl(*arguments: str | Path) -> None:
    """Run openssl. Skips the test where there is none."""
    program = shutil.which("openssl")
    if program is None:
        pytest.skip("there is no openssl to make certificates with")
    subprocess.run([program, *arguments], check=True, capture_output=True)


def make_authority(folder: Path, name: str = "ca") -> Pair:
    """Make an authority that signed itself."""
    return _self_signed(folder, name, "-subj", f"/CN={name}")


def make_self_signed(folder: Path, names: str, name: str = "own") -> Pair:
    """Make a server's certificate that signed itself. names: as in subjectAltName, "DNS:a.example,IP:127.0.0.1"."""
    return _self_signed(folder, name, "-subj", "/CN=server", "-addext", f"subjectAltName={names}")


def make_signed(folder: Path, authority: Pair, names: str, name: str = "server") -> Pair:
    """Make a server's certificate that an authority has signed."""
    made = Pair(folder / f"{name}.pem", folder / f"{name}.key")
    request, extensions = folder / f"{name}.csr", folder / f"{name}.ext"
    extensions.write_text(f"subjectAltName={names}\n")
    openssl("req", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=server", "-keyout", made.key, "-out", request)
    openssl(
        *("x509", "-req", "-in", request, "-CA", authority.certificate, "-CAkey", authority.key, "-days", "1"),
        *("-CAcreateserial", "-extfile", extensions, "-out", made.certificate),
    )
    return made


def _self_signed(folder: Path, name: str, *options: str) -> Pair:
    made = Pair(folder / f"{name}.pem", folder / f"{name}.key")
    common = "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1"
    openssl(*common, *options, "-keyout", made.key, "-out", made.certificate)
    return made
