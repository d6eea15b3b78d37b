"""TLS for HTTP/2 (RFC 9113 §9.2): versions, the protocol's name, and certificates of clients."""

import ssl
from pathlib import Path

ALPN = "h2"


def server_context(certificate: Path, key: Path, client_authorities: Path | None = None) -> ssl.SSLContext:
    """Return a context with the server's certificate chain and key, all in PEM.

    With `client_authorities`, clients must have a certificate that one of these signed.
    Raises OSError and ssl.SSLError.
    """
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    context.load_cert_chain(certificate, key)
    context.set_alpn_protocols([ALPN])
    if client_authorities is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(client_authorities)
    return context
