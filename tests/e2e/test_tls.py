"""TLS on both sides, and IPv6."""

import http.client
import json
import ssl
import urllib.request
from pathlib import Path

import pytest
import trustme

from tests.e2e.backends import answer_ok, backend
from tests.e2e.clients import ask, chat
from tests.e2e.processes import eventually, free_port, serving


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """Who signs what is to be trusted."""
    return trustme.CA()


def _files(directory: Path, authority: trustme.CA) -> dict[str, str]:
    """A certificate for 127.0.0.1 and its key, and the authority's own, as files."""
    issued = authority.issue_cert("127.0.0.1")
    paths = {name: directory / f"{name}.pem" for name in ("certificate", "key", "ca")}
    issued.cert_chain_pems[0].write_to_path(paths["certificate"])
    issued.private_key_pem.write_to_path(paths["key"])
    authority.cert_pem.write_to_path(paths["ca"])
    return {name: str(path) for name, path in paths.items()}


def _client(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


def test_tls_for_clients_and_to_backends(tmp_path: Path, authority: trustme.CA) -> None:
    """Both sides are encrypted, certificates are verified both ways, and HTTP without TLS gets no answer."""
    files = _files(tmp_path, authority)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files["certificate"], files["key"])
    listen = {"tls": {"certificate": files["certificate"], "key": files["key"]}}
    with backend(answer_ok, context) as server:
        backends = [server.settings("secure", tls={"ca": files["ca"]})]
        with serving(tmp_path, backends, listen=listen) as balancer:
            answer = ask(balancer.port, body=chat(), tls=_client(authority))
            assert (answer.status, answer.json()) == (200, {"ok": True})
            with pytest.raises(ssl.SSLCertVerificationError):
                ask(balancer.port, body=chat(), tls=_client(trustme.CA()))
            with pytest.raises((OSError, http.client.HTTPException)):
                ask(balancer.port, body=chat())
            assert len(server.calls) == 1


def test_clients_must_show_a_certificate(tmp_path: Path, authority: trustme.CA) -> None:
    """With an authority for clients, one without a certificate or with a stranger's gets no answer."""
    files = _files(tmp_path, authority)
    listen = {"tls": {"certificate": files["certificate"], "key": files["key"], "client_ca": files["ca"]}}
    known, nobody, stranger = (_client(authority) for _ in range(3))
    authority.issue_cert("client.test").configure_cert(known)
    trustme.CA().issue_cert("client.test").configure_cert(stranger)
    with backend(answer_ok) as server, serving(tmp_path, [server.settings()], listen=listen) as balancer:
        assert ask(balancer.port, body=chat(), tls=known).status == 200
        for context in (nobody, stranger):
            with pytest.raises(OSError, match=r".+"):
                ask(balancer.port, body=chat(), tls=context)
        assert len(server.calls) == 1


def test_a_backend_of_an_unknown_authority(tmp_path: Path, authority: trustme.CA) -> None:
    """A backend whose certificate another authority signed, or whose name is another, gets nothing: 502 or 503."""
    files = _files(tmp_path, authority)
    strange, misnamed = (ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER) for _ in range(2))
    trustme.CA().issue_cert("127.0.0.1").configure_cert(strange)
    authority.issue_cert("other.test").configure_cert(misnamed)
    with backend(answer_ok, strange) as one, backend(answer_ok, misnamed) as two:
        trust = {"ca": files["ca"]}
        backends = [one.settings("one", models=["one"], tls=trust), two.settings("two", models=["two"], tls=trust)]
        with serving(tmp_path, backends) as balancer:
            answers = [ask(balancer.port, body=chat(model=model)) for model in ("one", "two")]
            assert all(answer.status in (502, 503) for answer in answers)
            eventually(lambda: balancer.metric("gpubalancer_backend_up") == 0, "the probes to say so")
            assert one.calls + two.calls == []


def test_ipv6(tmp_path: Path) -> None:
    """The data port listens on ::1."""
    listen = {"host": "::1", "port": free_port("::1")}
    with backend(answer_ok) as server, serving(tmp_path, [server.settings()], listen=listen) as balancer:
        assert ask(balancer.port, body=chat(), host="::1").status == 200
        address = f"http://[::1]:{balancer.port}/v1/models"
        with urllib.request.urlopen(address, timeout=10) as answer:
            assert json.load(answer)["data"][0]["id"] == "m"
