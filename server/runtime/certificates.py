"""Checks the server's certificate before anything starts, in a handshake without a network.

So whatever would keep clients from connecting is found in the words of an operator, and what clients on this machine
must know is read from the certificate itself.
"""

import ssl
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from server.runtime.supervision.endpoints import connectable
from server.settings import Settings


class CertificateError(Exception):
    """The files of the certificate cannot be used. The message names the setting, in one line."""


@dataclass(frozen=True)
class Trust:
    """What clients on this machine need: the file of certificates to trust (None: those of the system), and a name.

    server_name: the name that the certificate has instead of the host; None if it has the host. is_trusted: whether a
    client that knows these can verify the certificate.
    """

    ca_file: Path | None
    server_name: str | None
    is_trusted: bool = True


def check_certificate(settings: Settings) -> Trust | None:
    """Check that key, certificate and authority belong together. Returns None without TLS. Raises CertificateError."""
    certificate, key = settings.tls_certificate_file, settings.tls_private_key_file
    if certificate is None or key is None:
        return None
    server = _server_context(certificate, key)
    if settings.tls_ca_file is not None:
        try:
            names = _verified_names(server, _client_context(settings.tls_ca_file))
        except ssl.SSLCertVerificationError as error:
            raise CertificateError(
                f"SAMPLIT_TLS_CA_FILE: {settings.tls_ca_file} does not verify the certificate {certificate}: "
                f"{error.verify_message}"
            ) from error
        return Trust(settings.tls_ca_file.absolute(), _server_name(names, connectable(settings.host)))
    for authority in (certificate, None):  # one that signed itself, or has its authority in the chain; or a public one
        try:
            names = _verified_names(server, _client_context(authority))
        except ssl.SSLError:
            continue
        return Trust(authority and authority.absolute(), _server_name(names, connectable(settings.host)))
    return Trust(None, None, is_trusted=False)


def _server_context(certificate: Path, key: Path) -> ssl.SSLContext:
    for variable, path in (("SAMPLIT_TLS_CERTIFICATE_FILE", certificate), ("SAMPLIT_TLS_PRIVATE_KEY_FILE", key)):
        _check_readable(variable, path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(certificate, key, password=_refuse_password)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise CertificateError(
                f"SAMPLIT_TLS_PRIVATE_KEY_FILE: the key {key} does not belong to the certificate {certificate}"
            ) from error
        raise CertificateError(
            "SAMPLIT_TLS_CERTIFICATE_FILE and SAMPLIT_TLS_PRIVATE_KEY_FILE: "
            f"{certificate} and {key} are not a certificate and its key in PEM ({error.reason or error})"
        ) from error
    return context


def _refuse_password() -> str:
    raise CertificateError("SAMPLIT_TLS_PRIVATE_KEY_FILE: the key has a password, which nobody could type at a start")


def _client_context(authority: Path | None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False  # the names are what is looked for
    if authority is None:
        context.load_default_certs()
        return context
    _check_readable("SAMPLIT_TLS_CA_FILE", authority)
    try:
        context.load_verify_locations(authority)
    except ssl.SSLError as error:
        raise CertificateError(f"SAMPLIT_TLS_CA_FILE: {authority} has no certificate in PEM") from error
    return context


def _check_readable(variable: str, path: Path) -> None:
    try:
        path.read_bytes()
    except OSError as error:
        raise CertificateError(f"{variable}: cannot read {path}: {error.strerror}") from error


def _verified_names(server: ssl.SSLContext, client: ssl.SSLContext) -> list[tuple[str, str]]:
    """Shake hands in memory, and return the names in the certificate with their kinds. Raises ssl.SSLError."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = (
        client.wrap_bio(to_client, to_server, server_side=False),
        server.wrap_bio(to_server, to_client, server_side=True),
    )
    unfinished = set(ends)
    while unfinished:
        for end in ends:
            try:
                end.do_handshake()
                unfinished.discard(end)
            except ssl.SSLWantReadError:
                pass
    found: dict[str, Any] = ends[0].getpeercert() or {}
    names = list(found.get("subjectAltName", ()))
    if not names:
        names = [("DNS", value) for part in found.get("subject", ()) for kind, value in part if kind == "commonName"]
    return names


def _server_name(names: list[tuple[str, str]], host: str) -> str | None:
    """Return a name of the certificate to expect instead of the host; None if the host is one of its names."""
    hosts = [value for kind, value in names if kind == "DNS"]
    addresses = [value for kind, value in names if kind == "IP Address"]
    if _is_address(host):
        if any(ip_address(value.strip()) == ip_address(host) for value in addresses):
            return None
    elif any(_matches(value, host) for value in hosts):
        return None
    for value in hosts:
        return value.replace("*", "samplit", 1)
    return addresses[0].strip() if addresses else None


def _matches(name: str, host: str) -> bool:
    if name.startswith("*."):
        return host.lower().partition(".")[2] == name[2:].lower()
    return name.lower() == host.lower()


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
