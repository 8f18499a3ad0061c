"""What one policy means to a worker, and what of it outlives a reload."""

import asyncio
from pathlib import Path

import pytest
import trustme

from gpubalancer.brain.fleet import Discovery
from gpubalancer.domain.errors import RequestError
from gpubalancer.policy.load import parse
from gpubalancer.policy.schema import Policy
from gpubalancer.proxy.generation import Generation, build_generation, drop_generation
from gpubalancer.wire.pool import Endpoint
from gpubalancer.wire.sweep import Sweeper
from tests.brain.policies import DIGEST, ROWS
from tests.brain.policies import policy as three_backends
from tests.wire.fakes import Clock

DEADLINE_S = 10.0
FAKE_SECRET = "fake-credential"


def one_backend(more: str = "", sections: str = "", url: str = "http://127.0.0.1:9001") -> Policy:
    """A policy of one backend; `more` are fields of it, `sections` whole lines at the end."""
    text = f'backends:\n  - {{name: a, url: "{url}", models: [m]{more}}}\n{sections}'
    return parse(text, "policy.yaml", Path("/"), {})


def generation(policy: Policy, previous: Generation | None = None, number: int = 1) -> Generation:
    """Built on rows that are not in the policy's order."""
    clock = Clock()
    rows = {backend.name: ROWS.get(backend.name, 7) for backend in policy.backends}
    return build_generation(number, policy, rows, {}, previous, clock, Sweeper(clock))


def endpoint(policy: Policy) -> Endpoint:
    """Where the first backend is."""
    return generation(policy).pools[0].endpoint


def test_everything_is_of_the_one_policy() -> None:
    """Fleet, keys and pools come from the policy, in its order; rows and discoveries from their arguments."""
    policy = three_backends()
    clock = Clock()
    found = {"a": Discovery(("new",), "vllm", "gpu")}
    built = build_generation(4, policy, ROWS, found, None, clock, Sweeper(clock))
    assert (built.number, built.policy) == (4, policy)
    assert built.fleet.names == ("a", "b", "c")
    assert list(built.fleet.rows) == [ROWS[name] for name in built.fleet.names]
    assert [pool.endpoint.port for pool in built.pools] == [9001, 9002, 9003]
    assert built.keys.payer_of(None).tenant.name == "guest"
    with pytest.raises(RequestError):
        built.keys.payer_of(DIGEST.encode())


def test_discoveries_fill_what_the_policy_leaves_open() -> None:
    """Models that a server told of are served; where the policy names them, the policy holds."""
    clock = Clock()
    policy = parse("backends:\n  - {name: a, url: 'http://127.0.0.1:1'}\n", "policy.yaml", Path("/"), {})
    for discovered, models in (({}, []), ({"a": Discovery(("told",), None, None)}, ["told"])):
        built = build_generation(1, policy, ROWS, discovered, None, clock, Sweeper(clock))
        assert built.fleet.models() == models


AUTHORITIES = {
    "http://127.0.0.1:9001": b"127.0.0.1:9001",
    "http://example.org": b"example.org",
    "http://example.org:443": b"example.org:443",
    "https://example.org": b"example.org",
    "https://example.org:80/v1": b"example.org:80",
    "http://[::1]:9001": b"[::1]:9001",
    "http://[::1]": b"[::1]",
}


@pytest.mark.parametrize("url", AUTHORITIES)
def test_the_authority(url: str) -> None:
    """Host is the URL's, with brackets around IPv6 and without the scheme's own port (RFC 9110 section 7.2)."""
    assert endpoint(one_backend(url=url)).origin.authority == AUTHORITIES[url]


def test_the_address() -> None:
    """A connection goes to the plain host and port within the policy's time; the path's prefix is kept."""
    found = endpoint(one_backend(url="http://[::1]:9001/v1/", sections="routing: {timeouts: {connect: 3s}}"))
    assert (found.host, found.port, found.connect_s, found.origin.path_prefix) == ("::1", 9001, 3.0, "/v1")
    assert (found.tls, found.server_name) == (None, "::1")


CREDENTIALS = [
    ("", b""),
    (f", credential: {FAKE_SECRET}", b"authorization: Bearer %b\r\n" % FAKE_SECRET.encode()),
    (f", engine: vllm, credential: {FAKE_SECRET}", b"authorization: Bearer %b\r\n" % FAKE_SECRET.encode()),
    (f", engine: anthropic, credential: {FAKE_SECRET}", b"x-api-key: %b\r\n" % FAKE_SECRET.encode()),
]


@pytest.mark.parametrize(("more", "lines"), CREDENTIALS)
def test_the_credential(more: str, lines: bytes) -> None:
    """A backend gets its own credential, in the field that its engine reads, or none."""
    assert endpoint(one_backend(more)).origin.credential_lines == lines


def test_the_clearance_decides_on_addresses() -> None:
    """A backend cleared for a tier may only be where the tier's networks are, whatever scope an address carries."""
    tiers = 'tiers: [{name: public}, {name: secret, networks: ["127.0.0.0/8", "fe80::/64"]}]\n'
    secret = endpoint(one_backend(", clearance: secret", tiers))
    found = [secret.admits(address) for address in ("127.0.0.9", "fe80::1%eth0", "::ffff:127.0.0.1", "8.8.8.8", "::1")]
    assert found == [True, True, True, False, False]
    assert endpoint(one_backend(", clearance: public", tiers)).admits("8.8.8.8")


def test_trust(tmp_path: Path) -> None:
    """An https backend is verified by the given authorities and under the given name, else under its host's."""
    trustme.CA().cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    url, tls = "https://example.org", f', tls: {{ca: "{tmp_path}/ca.pem", server_name: inner.example}}'
    named, plain = endpoint(one_backend(tls, url=url)), endpoint(one_backend(url=url))
    assert (named.server_name, plain.server_name) == ("inner.example", "example.org")
    assert named.tls is not None
    assert plain.tls is not None
    assert named.tls.cert_store_stats()["x509_ca"] == 1


@pytest.mark.parametrize("content", [None, "no certificate"])
def test_trust_that_cannot_be_read(tmp_path: Path, content: str | None) -> None:
    """A file of authorities that has gone since the policy was read, or is none, fails the whole build."""
    (tmp_path / "ca.pem").write_text(content or "")
    policy = one_backend(f', tls: {{ca: "{tmp_path}/ca.pem"}}', url="https://127.0.0.1:9001")
    if content is None:
        (tmp_path / "ca.pem").unlink()
    before = generation(one_backend())
    with pytest.raises(OSError):
        generation(policy, before)
    assert generation(one_backend(), before).pools == before.pools


SAME = {
    "nothing": one_backend(),
    "slots": one_backend(", slots: 2"),
    "labels": one_backend(", labels: {zone: b}"),
    "another backend": one_backend(sections='  - {url: "http://127.0.0.1:9002", models: [m]}\n'),
    "a tenant": one_backend(sections="tenants: [{name: new}]\n"),
}
OTHER = {
    "port": one_backend(url="http://127.0.0.1:9009"),
    "engine": one_backend(", engine: anthropic"),
    "prefix": one_backend(url="http://127.0.0.1:9001/v1"),
    "scheme": one_backend(url="https://127.0.0.1:9001"),
    "credential": one_backend(f", credential: {FAKE_SECRET}"),
    "tls": one_backend(", tls: {server_name: inner.example}", url="https://127.0.0.1:9001"),
    "clearance": one_backend(", clearance: public"),
    "time to connect": one_backend(sections="routing: {timeouts: {connect: 3s}}"),
    "name": parse('backends:\n  - {name: z, url: "http://127.0.0.1:9001", models: [m]}\n', "p", Path("/"), {}),
}


@pytest.mark.parametrize("change", SAME)
def test_an_unchanged_backend_keeps_its_pool(change: str) -> None:
    """What says nothing about a connection leaves it; everything else is of the new policy."""
    old = generation(one_backend())
    new = generation(SAME[change], old, number=2)
    assert new.pools[0] is old.pools[0]
    assert (new.number, new.policy) == (2, SAME[change])
    assert len(new.pools) == len(SAME[change].backends)


@pytest.mark.parametrize("change", OTHER)
def test_a_changed_backend_gets_a_pool_of_its_own(change: str) -> None:
    """Connections made under another address, credential, trust or clearance serve nobody under the new one."""
    old = generation(one_backend())
    assert generation(OTHER[change], old).pools[0] is not old.pools[0]


def test_dropping_closes_what_was_not_taken_over() -> None:
    """A connection of a removed backend is closed when it is given back; one of a kept backend is taken again."""

    async def scene() -> None:
        accepted: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Queue()
        server = await asyncio.start_server(lambda *ends: accepted.put_nowait(ends), "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        entries = [f'  - {{name: {name}, url: "http://127.0.0.1:{port}", models: [m]}}\n' for name in ("a", "b")]
        both, one = (parse("backends:\n" + "".join(each), "p", Path("/"), {}) for each in (entries, entries[:1]))
        old = generation(both)
        kept, gone = [await pool.connect() for pool in old.pools]
        new = generation(one, old)
        drop_generation(old, new)
        for pool, upstream in zip(old.pools, (kept, gone), strict=True):
            pool.give_back(upstream)
        assert new.pools[0].take_nowait() is kept
        (_, first), (reader, second) = await accepted.get(), await accepted.get()
        assert await reader.read() == b""
        assert kept.reusable
        kept.abort()
        for writer in (first, second):
            writer.close()
            await writer.wait_closed()
        server.close()

    async def bounded() -> None:
        async with asyncio.timeout(DEADLINE_S):
            await scene()

    asyncio.run(bounded())
