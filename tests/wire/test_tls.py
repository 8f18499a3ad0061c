"""TLS contexts, against certificates made for the test."""

import ssl
from pathlib import Path

import pytest
import trustme

from gpubalancer.wire.tls import client_context, server_context


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an authority, a server's and a client's certificate, and one of a stranger."""
    folder = tmp_path_factory.mktemp("tls")
    authority, stranger = trustme.CA(), trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    stranger.cert_pem.write_to_path(str(folder / "other-ca.pem"))
    for name, issued in (
        ("server", authority.issue_cert("localhost")),
        ("client", authority.issue_cert("client@example.org")),
        ("stranger", stranger.issue_cert("client@example.org")),
    ):
        issued.private_key_pem.write_to_path(str(folder / f"{name}.key"))
        issued.cert_chain_pems[0].write_to_path(str(folder / f"{name}.pem"))
    return folder


def shake(server: ssl.SSLContext, client: ssl.SSLContext, name: str = "localhost") -> ssl.SSLObject:
    """Shake hands in memory; the client's side, after it has read one message of the server."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = server.wrap_bio(to_server, to_client, server_side=True)
    theirs = client.wrap_bio(to_client, to_server, server_hostname=name)
    done: set[ssl.SSLObject] = set()
    for _ in range(10):
        for side in (theirs, ours):
            if side not in done:
                try:
                    side.do_handshake()
                    done.add(side)
                except ssl.SSLWantReadError:
                    continue
    assert done == {ours, theirs}
    ours.write(b"x")
    assert theirs.read(1) == b"x"
    return theirs


def test_a_handshake(files: Path) -> None:
    """Our server and our client understand one another, with HTTP/1.1 and TLS 1.2 or later."""
    server = server_context(files / "server.pem", files / "server.key", None)
    side = shake(server, client_context(files / "ca.pem", None, None))
    assert side.selected_alpn_protocol() == "http/1.1"
    assert side.version() in ("TLSv1.2", "TLSv1.3")


def test_old_versions_are_refused(files: Path) -> None:
    """Neither side goes below TLS 1.2."""
    server = server_context(files / "server.pem", files / "server.key", None)
    client = client_context(files / "ca.pem", None, None)
    assert server.minimum_version >= ssl.TLSVersion.TLSv1_2
    assert client.minimum_version >= ssl.TLSVersion.TLSv1_2


@pytest.mark.parametrize(("authority", "name"), [("other-ca.pem", "localhost"), ("ca.pem", "example.org")])
def test_a_backend_is_always_verified(files: Path, authority: str, name: str) -> None:
    """A certificate of another authority, or for another name, is refused."""
    server = server_context(files / "server.pem", files / "server.key", None)
    with pytest.raises(ssl.SSLCertVerificationError):
        shake(server, client_context(files / authority, None, None), name)


def test_the_systems_authorities_are_the_default(files: Path) -> None:
    """Without a file of authorities a certificate of our own is not trusted."""
    server = server_context(files / "server.pem", files / "server.key", None)
    with pytest.raises(ssl.SSLCertVerificationError):
        shake(server, client_context(None, None, None))


def test_clients_show_a_certificate_where_asked(files: Path) -> None:
    """With client authorities, only a certificate of theirs gets in."""
    server = server_context(files / "server.pem", files / "server.key", files / "ca.pem")
    shake(server, client_context(files / "ca.pem", files / "client.pem", files / "client.key"))
    with pytest.raises(ssl.SSLError):
        shake(server, client_context(files / "ca.pem", None, None))
    with pytest.raises(ssl.SSLError):
        shake(server, client_context(files / "ca.pem", files / "stranger.pem", files / "stranger.key"))


def test_files_that_are_missing_or_of_another_kind(files: Path) -> None:
    """A file that can't be read, is no PEM, or is another's key is an OSError."""
    (files / "noise.pem").write_bytes(b"noise")
    for certificate, key in (("none.pem", "server.key"), ("noise.pem", "server.key"), ("server.pem", "client.key")):
        with pytest.raises(OSError):
            server_context(files / certificate, files / key, None)
    with pytest.raises(OSError):
        client_context(files / "none.pem", None, None)
