"""The one meaning of a head, for requests and for answers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpubalancer.domain.errors import RequestError
from gpubalancer.wire.heads import (
    METHODS,
    NEVER_NOMINATED,
    ONCE,
    BadResponse,
    Headers,
    RequestHead,
    read_request_head,
    read_response_head,
)

HOST = (b"host", b"a")


def head(*headers: tuple[bytes, bytes], method: str = "POST", version: str = "1.1") -> RequestHead:
    """A request's head with a Host."""
    return read_request_head(method, b"/v1/completions", version, [HOST, *headers])


def code_of(*headers: tuple[bytes, bytes], method: str = "POST", version: str = "1.1") -> str:
    """The code with which a head is refused."""
    with pytest.raises(RequestError) as caught:
        head(*headers, method=method, version=version)
    return caught.value.code


@pytest.mark.parametrize("method", sorted(METHODS))
def test_methods_of_inference_are_read(method: str) -> None:
    """Each method of the table is accepted and kept."""
    assert head(method=method).method == method


@pytest.mark.parametrize("method", ["CONNECT", "TRACE", "PROPFIND", "get"])
def test_other_methods_are_refused(method: str) -> None:
    """What no inference API uses is refused with 405."""
    assert code_of(method=method) == "method_not_allowed"


@pytest.mark.parametrize("name", sorted(ONCE - {b"transfer-encoding", b"content-length", b"expect", b"upgrade"}))
def test_a_field_of_one_meaning_is_refused_twice(name: bytes) -> None:
    """A second field of a name in ONCE is refused, even with the same value."""
    expected = "invalid_host" if name == b"host" else "ambiguous_framing"
    assert code_of((name, b"a"), (name, b"a")) == expected


def test_other_fields_may_repeat() -> None:
    """Fields that are lists may come more than once, and all are kept."""
    read = head((b"accept", b"a"), (b"accept", b"b"))
    assert read.headers == [HOST, (b"accept", b"a"), (b"accept", b"b")]


def test_host_is_required_by_1_1_only() -> None:
    """HTTP/1.1 without a Host is refused, HTTP/1.0 is not (RFC 9112 section 3.2)."""
    with pytest.raises(RequestError, match="requires a Host"):
        read_request_head("GET", b"/", "1.1", [])
    assert read_request_head("GET", b"/", "1.0", []).version == "1.0"


@pytest.mark.parametrize(
    ("version", "connection", "keep"),
    [
        ("1.1", None, True),
        ("1.1", b"close", False),
        ("1.1", b"Close", False),
        ("1.1", b"foo, close", False),
        ("1.1", b"keep-alive", True),
        ("1.1", b"keep-alive, close", False),
        ("1.0", None, False),
        ("1.0", b"keep-alive", True),
        ("1.0", b"Keep-Alive", True),
        ("1.0", b"close", False),
    ],
)
def test_keep_alive(version: str, connection: bytes | None, keep: bool) -> None:
    """Version and Connection decide whether the connection lives on (RFC 9112 section 9.3)."""
    fields: Headers = [] if connection is None else [(b"connection", connection)]
    assert head(*fields, version=version).keep_alive is keep


def test_connection_fields_add_up() -> None:
    """The tokens of all Connection fields are nominated, in lower case and without white space."""
    read = head((b"connection", b"X-One ,x-two"), (b"connection", b"CLOSE"))
    assert read.nominated == {b"x-one", b"x-two", b"close"}
    assert not read.keep_alive


@pytest.mark.parametrize("name", sorted(NEVER_NOMINATED))
def test_end_to_end_fields_cannot_be_nominated(name: bytes) -> None:
    """Connection may not remove what both ends need (RFC 9110 section 7.6.1)."""
    assert code_of((b"connection", b"close, " + name.upper())) == "invalid_header"


def test_framing() -> None:
    """Length, chunks and neither are told apart."""
    assert (head((b"content-length", b"12")).length, head((b"content-length", b"12")).chunked) == (12, False)
    coded = head((b"transfer-encoding", b"Chunked"))
    assert (coded.length, coded.chunked, coded.has_body) == (None, True, True)
    assert (head().length, head().chunked, head().has_body) == (None, False, False)
    assert not head((b"content-length", b"0")).has_body


@pytest.mark.parametrize("value", [b"+1", b"-1", b"1 ", b"01", b"00", b"1,1", b"0x1", b"1_0", b"", b"\xb2", b"1" * 19])
def test_a_length_is_a_plain_decimal_number(value: bytes) -> None:
    """Whatever another parser could read differently is refused."""
    assert code_of((b"content-length", value)) == "ambiguous_framing"


@given(st.integers(0, 10**18 - 1))
def test_every_plain_length_is_read(length: int) -> None:
    """A decimal number of at most 18 digits is the length."""
    assert head((b"content-length", b"%d" % length)).length == length


def test_framing_that_is_read_in_two_ways_is_refused() -> None:
    """Both framings, a coding in 1.0 and an unknown coding are refused."""
    both = ((b"content-length", b"1"), (b"transfer-encoding", b"chunked"))
    assert code_of(*both) == code_of(*reversed(both)) == "ambiguous_framing"
    assert code_of((b"transfer-encoding", b"chunked"), version="1.0") == "ambiguous_framing"
    assert code_of((b"transfer-encoding", b"gzip")) == "unsupported_transfer_encoding"


def test_upgrade_needs_its_nomination() -> None:
    """Upgrade counts only where Connection names it (RFC 9110 section 7.8)."""
    assert head((b"upgrade", b"websocket")).upgrade is None
    assert head((b"connection", b"upgrade"), (b"upgrade", b"WebSocket")).upgrade == b"websocket"
    assert head((b"connection", b"upgrade")).upgrade is None


def test_expectations() -> None:
    """Only 100-continue may be expected."""
    assert head((b"expect", b"100-continue")).expects_continue
    assert not head().expects_continue
    assert code_of((b"expect", b"200-ok")) == "expectation_failed"


# Answers.


def test_an_answer_is_read() -> None:
    """Status, framing, persistence and nominations of a plain answer."""
    read = read_response_head(200, "1.1", [(b"content-length", b"3"), (b"connection", b"X-Hop, keep-alive")])
    assert (read.status, read.length, read.chunked, read.keep_alive) == (200, 3, False, True)
    assert read.nominated == {b"x-hop", b"keep-alive"}
    assert (read.field(b"content-length"), read.field(b"x")) == (b"3", None)


BAD: dict[str, tuple[str, Headers]] = {
    "two lengths": ("1.1", [(b"content-length", b"1"), (b"content-length", b"1")]),
    "signed length": ("1.1", [(b"content-length", b"+1")]),
    "list of lengths": ("1.1", [(b"content-length", b"1, 1")]),
    "empty length": ("1.1", [(b"content-length", b"")]),
    "length and chunks": ("1.1", [(b"content-length", b"1"), (b"transfer-encoding", b"chunked")]),
    "chunks twice": ("1.1", [(b"transfer-encoding", b"chunked"), (b"transfer-encoding", b"chunked")]),
    "other coding": ("1.1", [(b"transfer-encoding", b"gzip, chunked")]),
    "chunks in 1.0": ("1.0", [(b"transfer-encoding", b"chunked")]),
    "version": ("2.0", []),
}


@pytest.mark.parametrize("fault", BAD)
def test_an_answer_of_two_meanings_is_refused(fault: str) -> None:
    """Framing that two readers could see differently is no answer."""
    version, headers = BAD[fault]
    with pytest.raises(BadResponse):
        read_response_head(200, version, headers)


@pytest.mark.parametrize(
    ("version", "connection", "keep"),
    [("1.1", b"", True), ("1.1", b"Close", False), ("1.0", b"", False), ("1.0", b"keep-alive", True)],
)
def test_persistence_of_an_answer(version: str, connection: bytes, keep: bool) -> None:
    """Version and Connection decide whether the backend's connection may be used again."""
    assert read_response_head(200, version, [(b"connection", connection)]).keep_alive is keep
