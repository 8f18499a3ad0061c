"""TLS contexts, both ways. Version 1.2 at least; certificates are always verified where we are the client."""

import ssl
from pathlib import Path


def server_context(certificate: Path, key: Path, client_authorities: Path | None) -> ssl.SSLContext:
    """For the data port; with `client_authorities`, clients must show a certificate that one of them signed.

    Raises:
        OSError: a file can't be read or is no PEM of its kind.
    """
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    context.load_cert_chain(certificate, key)
    if client_authorities is not None:
        context.load_verify_locations(client_authorities)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def client_context(authorities: Path | None, certificate: Path | None, key: Path | None) -> ssl.SSLContext:
    """For backends; the system's authorities are trusted unless others are given.

    Raises:
        OSError: a file can't be read or is no PEM of its kind.
    """
    context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=str(authorities) if authorities else None)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    if certificate is not None:
        context.load_cert_chain(certificate, key)
    return context
