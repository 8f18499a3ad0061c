"""What a head loses and gains on its way, in both directions."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpubalancer.wire.forward import CREDENTIALS, Origin, names_us, request_lines, response_lines
from gpubalancer.wire.heads import HOP_BY_HOP, Headers, read_response_head
from tests.wire.fakes import request_head

VIA = b"1.1 gpubalancer-a"
ORIGIN = Origin(authority=b"backend:8000", path_prefix="", credential_lines=b"")


def forwarded(lines: bytes, *, origin: Origin = ORIGIN, length: int | None = None, upgrade: bool = False) -> Headers:
    """The fields that a backend gets for a request with these lines."""
    raw = b"POST /v1/completions HTTP/1.1\r\nHost: public\r\n%b\r\n" % lines
    return fields_of(
        request_lines(request_head(raw), origin, via=VIA, request_id=b"id-1", length=length, upgrade=upgrade)
    )


def fields_of(head: bytes) -> Headers:
    """The fields of a whole head."""
    assert head.endswith(b"\r\n\r\n")
    rows = [line.partition(b": ") for line in head[:-4].split(b"\r\n")[1:]]
    return [(name, value) for name, _, value in rows]


def answered(*headers: tuple[bytes, bytes]) -> Headers:
    """The fields that a client gets for an answer with these."""
    lines = response_lines(read_response_head(200, "1.1", list(headers)), b"x-request-id: id-1\r\n", VIA)
    return fields_of(b"HTTP/1.1 200 OK\r\n" + lines + b"\r\n")


def test_a_plain_request() -> None:
    """Request line, Host of the backend, the client's fields, Via, id, framing, in this order."""
    raw = b"POST /v1/x?q=1 HTTP/1.1\r\nHost: public\r\nContent-Type: application/json\r\nX-A: 1\r\n\r\n"
    assert request_lines(request_head(raw), ORIGIN, via=VIA, request_id=b"id-1", length=5) == (
        b"POST /v1/x?q=1 HTTP/1.1\r\nhost: backend:8000\r\ncontent-type: application/json\r\nx-a: 1\r\n"
        b"via: 1.1 gpubalancer-a\r\nx-request-id: id-1\r\ncontent-length: 5\r\n\r\n"
    )


@pytest.mark.parametrize("name", sorted(HOP_BY_HOP - {b"transfer-encoding", b"upgrade"}))
def test_hop_by_hop_fields_stay(name: bytes) -> None:
    """A field of this hop is not forwarded (RFC 9110 section 7.6.1)."""
    assert name not in dict(forwarded(b"%b: trailers\r\n" % name.title()))


@pytest.mark.parametrize("name", sorted(CREDENTIALS))
def test_credentials_stay(name: bytes) -> None:
    """The client's key, under any name, never reaches a backend, alone or beside another."""
    fields = forwarded(b"%b: Bearer secret\r\nProxy-Authorization: secret\r\n" % name.title())
    assert not any(b"secret" in value for _, value in fields)


@pytest.mark.parametrize(
    "name",
    [b"Forwarded", b"X-Forwarded-For", b"X-Real-IP", b"X-Gpubalancer-Tier", b"X-GPUBALANCER-anything", b"Expect"],
)
def test_claims_and_our_own_fields_stay(name: bytes) -> None:
    """What claims an address, what is ours and Expect are not forwarded."""
    value = b"100-continue" if name == b"Expect" else b"public"
    assert name.lower() not in dict(forwarded(b"%b: %b\r\n" % (name, value)))


def test_nominated_fields_stay() -> None:
    """All that any Connection field names is of this hop."""
    fields = dict(forwarded(b"Connection: X-One, close\r\nX-One: 1\r\nX-Two: 2\r\nX-Three: 3\r\nConnection: x-TWO\r\n"))
    assert b"x-one" not in fields
    assert b"x-two" not in fields
    assert fields[b"x-three"] == b"3"


def test_the_backends_credential_comes() -> None:
    """The backend gets its own credential, once, in place of the client's."""
    origin = Origin(b"b", "", b"authorization: Bearer theirs\r\n")
    fields = forwarded(b"Authorization: Bearer mine\r\n", origin=origin)
    assert [value for name, value in fields if name == b"authorization"] == [b"Bearer theirs"]


def test_via_is_appended() -> None:
    """Our name stands behind those of the proxies before us, in one field (RFC 9110 section 7.6.3)."""
    fields = forwarded(b"Via: 1.0 first\r\n")
    assert [value for name, value in fields if name == b"via"] == [b"1.0 first, 1.1 gpubalancer-a"]


def test_every_via_field_is_kept() -> None:
    """Several Via fields are one list, none of whose members may be lost (RFC 9110 section 5.3)."""
    fields = forwarded(b"Via: 1.0 first\r\nVia: 1.1 second\r\n")
    via = b", ".join(value for name, value in fields if name == b"via")
    assert via == b"1.0 first, 1.1 second, 1.1 gpubalancer-a"


def test_request_id_and_host_are_ours() -> None:
    """The client's id and Host are replaced, not doubled."""
    fields = forwarded(b"X-Request-Id: theirs\r\n")
    assert [value for name, value in fields if name in (b"host", b"x-request-id")] == [b"backend:8000", b"id-1"]


@pytest.mark.parametrize(
    ("lines", "length", "framing"),
    [
        (b"", None, {}),
        (b"Content-Length: 7\r\n", 5, {b"content-length": b"5"}),
        (b"Transfer-Encoding: chunked\r\n", None, {b"transfer-encoding": b"chunked"}),
        (b"Transfer-Encoding: chunked\r\n", 5, {b"content-length": b"5"}),
    ],
)
def test_framing_is_ours(lines: bytes, length: int | None, framing: dict[bytes, bytes]) -> None:
    """The body is framed once: by the length that is sent, else as chunks if the client's was."""
    fields = dict(forwarded(lines, length=length))
    found = {name: fields[name] for name in (b"content-length", b"transfer-encoding") if name in fields}
    assert found == framing


def test_upgrade_only_where_allowed() -> None:
    """The wish for another protocol passes only if the policy lets it."""
    lines = b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: k\r\n"
    allowed = dict(forwarded(lines, upgrade=True))
    assert (allowed[b"connection"], allowed[b"upgrade"]) == (b"upgrade", b"websocket")
    assert allowed[b"sec-websocket-key"] == b"k"
    assert {b"connection", b"upgrade"}.isdisjoint(dict(forwarded(lines)))


NAMES = st.sampled_from([b"a", b"x-b", b"accept", b"user-agent", b"content-type"])
VALUES = st.text("abc ,;=/0", max_size=12).map(lambda text: text.strip().encode())


@given(st.lists(st.tuples(NAMES, VALUES), max_size=6, unique_by=lambda pair: pair[0]))
def test_end_to_end_fields_pass_unchanged(pairs: list[tuple[bytes, bytes]]) -> None:
    """Every other field passes with its value and in its order, both ways."""
    names = {name for name, _ in pairs}
    there = forwarded(b"".join(b"%b: %b\r\n" % pair for pair in pairs))
    assert [pair for pair in there if pair[0] in names] == pairs
    assert [pair for pair in answered(*pairs) if pair[0] in names] == pairs


@pytest.mark.parametrize(
    ("prefix", "target", "path"),
    [
        ("", "/v1/x", "/v1/x"),
        ("/v1", "/v1/x", "/v1/x"),
        ("/v1", "/v1", "/v1"),
        ("/v1", "/v1?a=b", "/v1?a=b"),
        ("/v1", "/v10/x", "/v1/v10/x"),
        ("/openai", "/v1/x?q", "/openai/v1/x?q"),
    ],
)
def test_path_prefix(prefix: str, target: str, path: str) -> None:
    """The backend's prefix is added, unless the client's path begins with it."""
    assert Origin(b"b", prefix, b"").path(target) == path


@pytest.mark.parametrize("name", sorted(HOP_BY_HOP - {b"transfer-encoding", b"connection"}))
def test_hop_by_hop_fields_of_answers_stay(name: bytes) -> None:
    """A field of the backend's hop does not reach the client."""
    assert name not in dict(answered((name, b"x")))


def test_answers_lose_framing_and_what_is_ours() -> None:
    """Framing, nominated fields, Via, ids and `x-gpubalancer-*` of a backend are dropped; ours come once."""
    fields = answered(
        (b"content-length", b"3"),
        (b"connection", b"X-Hop"),
        (b"x-hop", b"1"),
        (b"via", b"1.1 evil"),
        (b"x-request-id", b"evil"),
        (b"x-gpubalancer-backend", b"evil"),
        (b"content-type", b"text/plain"),
    )
    assert fields == [(b"content-type", b"text/plain"), (b"via", VIA), (b"x-request-id", b"id-1")]


def test_set_cookie_of_an_answer_repeats() -> None:
    """Fields that may repeat reach the client as often as they came."""
    assert [name for name, _ in answered((b"set-cookie", b"a"), (b"set-cookie", b"b"))][:2] == [b"set-cookie"] * 2


def test_a_loop_is_seen() -> None:
    """Our pseudonym in any Via field shows a loop; another's does not."""
    assert names_us([(b"via", b"1.1 other"), (b"via", b"1.0 x, 1.1 gpubalancer-a")], VIA)
    assert not names_us([(b"via", b"1.1 other"), (b"x", b"gpubalancer-a")], VIA)


def test_an_answer_that_is_read_here_is_asked_for_uncompressed() -> None:
    """What the client would take is not passed on then, and is in all other cases."""
    head = request_head(b"POST /v1/x HTTP/1.1\r\nHost: public\r\nAccept-Encoding: gzip, br\r\n\r\n")
    plain = request_lines(head, ORIGIN, via=b"1.1 us", request_id=b"r", length=None, plain=True)
    assert plain.count(b"accept-encoding: ") == 1
    assert b"accept-encoding: identity\r\n" in plain
    assert b"accept-encoding: gzip, br\r\n" in request_lines(head, ORIGIN, via=b"1.1 us", request_id=b"r", length=None)
