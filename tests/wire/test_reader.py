"""Bytes in, requests or one failure out."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpubalancer.wire.body import HIGH_WATER_BYTES, InboundBody
from gpubalancer.wire.heads import RequestHead
from gpubalancer.wire.limits import Limits
from gpubalancer.wire.reader import RequestReader
from tests.wire.fakes import Flow, Seen, read

GET = b"GET /v1/models HTTP/1.1\r\nHost: a\r\n\r\n"


def get(lines: bytes = b"", *, version: bytes = b"1.1", host: bytes = b"Host: a\r\n", target: bytes = b"/x") -> bytes:
    """A request without a body."""
    return b"GET %b HTTP/%b\r\n%b%b\r\n" % (target, version, host, lines)


def post(lines: bytes, body: bytes) -> bytes:
    """A request with a body."""
    return b"POST /v1/completions HTTP/1.1\r\nHost: a\r\n%b\r\n%b" % (lines, body)


def chunked(pieces: list[bytes], *, extension: bytes = b"", trailers: bytes = b"") -> bytes:
    """A request with a chunked body."""
    coded = b"".join(b"%x%b\r\n%b\r\n" % (len(piece), extension, piece) for piece in pieces)
    return post(b"Transfer-Encoding: chunked\r\n", coded + b"0\r\n" + trailers + b"\r\n")


PIECES = st.binary(min_size=1, max_size=40)
REQUESTS = st.one_of(
    st.just((get(), b"")),
    PIECES.map(lambda body: (post(b"Content-Length: %d\r\n" % len(body), body), body)),
    st.lists(PIECES, max_size=4).map(lambda pieces: (chunked(pieces), b"".join(pieces))),
    st.lists(PIECES, max_size=3).map(
        lambda pieces: (chunked(pieces, extension=b";a=b", trailers=b"X-T: 1\r\n"), b"".join(pieces))
    ),
)


@given(st.lists(REQUESTS, min_size=1, max_size=5), st.data())
def test_any_split_of_a_stream_gives_the_same_requests(
    requests: list[tuple[bytes, bytes]], data: st.DataObject
) -> None:
    """However valid pipelined requests are cut into segments, the same heads and bodies come out."""
    stream = b"".join(raw for raw, _ in requests)
    cuts = sorted(data.draw(st.sets(st.integers(1, len(stream) - 1), max_size=8)))
    split = read(*(stream[start:end] for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True)))
    assert split.codes() == []
    assert split.contents() == [body for _, body in requests]
    assert split.heads == read(stream).heads


@given(st.lists(REQUESTS, min_size=1, max_size=2))
def test_bytes_one_by_one_give_the_same_requests(requests: list[tuple[bytes, bytes]]) -> None:
    """A stream that comes byte by byte is read as one that comes at once."""
    stream = b"".join(raw for raw, _ in requests)
    seen = read(*(stream[at : at + 1] for at in range(len(stream))))
    assert seen.codes() == []
    assert seen.contents() == [body for _, body in requests]


@given(st.binary(max_size=300), st.integers(0, 300))
def test_no_bytes_make_the_reader_raise(noise: bytes, cut: int) -> None:
    """Arbitrary bytes end in requests and at most one failure, and the reader raises nothing."""
    seen = read(noise[:cut], noise[cut:])
    assert len(seen.codes()) <= 1


@given(st.integers(0, len(GET) - 1), st.integers(0, 255), st.integers(0, len(GET)))
def test_a_changed_byte_never_makes_two_requests(at: int, value: int, cut: int) -> None:
    """One byte of a request replaced by any other gives at most one request or one failure, wherever it is split."""
    raw = GET[:at] + bytes((value,)) + GET[at + 1 :]
    seen = read(raw[:cut], raw[cut:])
    assert len(seen.heads) + len(seen.failures) <= 1


RTSP = b"GET /RTSP/x RTSP/1.0\r\nHost: a\r\n\r\n"


@given(st.sampled_from((b"", b"\r\n", b"\r\n\r\n")), st.data())
def test_another_protocol_is_refused_wherever_it_is_cut(before: bytes, data: st.DataObject) -> None:
    """The parser reads RTSP as HTTP; we doesn't: first on a connection, after a request, pipelined."""
    for stream in (before + RTSP, GET + before + RTSP, post(b"Content-Length: 2\r\n", b"ab") + before + RTSP):
        cuts = sorted(data.draw(st.sets(st.integers(1, len(stream) - 1), max_size=6)))
        seen = read(*(stream[start:end] for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True)))
        assert seen.codes() == ["unsupported_version"]
        assert len(seen.heads) == (0 if stream == before + RTSP else 1)


@given(st.sets(st.integers(1, 100), max_size=6))
def test_the_name_of_a_protocol_may_stand_elsewhere(cuts: set[int]) -> None:
    """In a target, a field or a body, RTSP is a word like others."""
    stream = b"POST /RTSP/1.0 HTTP/1.1\r\nHost: a\r\nX-A: b RTSP/1.0\r\nContent-Length: 11\r\n\r\n/x RTSP/1.0"
    ends = sorted(cut for cut in cuts if cut < len(stream))
    seen = read(*(stream[start:end] for start, end in zip([0, *ends], [*ends, len(stream)], strict=True)))
    assert (seen.codes(), seen.contents()) == ([], [b"/x RTSP/1.0"])


def test_nothing_is_read_after_a_stop() -> None:
    """A reader that is stopped by a request hands over none that came in the same segment."""
    heads: list[RequestHead] = []

    def take(head: RequestHead, _body: InboundBody) -> None:
        heads.append(head)
        reader.stop()

    reader = RequestReader(Limits(), Flow(), take, lambda error: pytest.fail(error.message))
    reader.feed(GET * 1000)
    assert len(heads) == 1


def test_fields_and_trailers_are_counted_as_they_come() -> None:
    """The first one too many ends it: what follows in the same segment is not looked at."""
    assert read(b"GET / HTTP/1.1\r\n" + b"a:b\r\n" * 131).codes() == ["head_too_large"]
    assert read(chunked([b"x"], trailers=b"a:b\r\n" * 131)).codes() == ["body_too_large"]
    assert read(chunked([b"x"], trailers=b"a:b\r\n" * 128)).contents() == [b"x"]


def test_a_head_is_handed_over_before_its_body() -> None:
    """The request comes as soon as its head is complete; its body completes later."""
    seen = Seen()
    reader = seen.reader()
    reader.feed(post(b"Content-Length: 4\r\n", b"ab"))
    assert len(seen.heads) == 1
    assert not seen.bodies[0].complete
    reader.feed(b"cd")
    assert seen.contents() == [b"abcd"]


# RFC 9110 and 9112, each rule of which a server must make sure for what it receives.
REFUSED: dict[str, tuple[bytes, str]] = {
    "host_missing": (get(host=b""), "invalid_host"),
    "host_twice": (get(b"Host: b\r\n"), "invalid_host"),
    "host_invalid": (get(host=b"Host: a/b\r\n"), "invalid_host"),
    "host_with_user": (get(host=b"Host: u@b\r\n"), "invalid_host"),
    "host_empty": (get(host=b"Host:\r\n"), "invalid_host"),
    "target_connect": (b"CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n", "method_not_allowed"),
    "target_asterisk": (b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", "invalid_target"),
    "target_other_scheme": (get(target=b"ftp://a/x"), "invalid_target"),
    "te_and_cl": (post(b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n", b"0\r\n\r\n"), "ambiguous_framing"),
    "cl_and_te": (post(b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n", b"0\r\n\r\n"), "ambiguous_framing"),
    "te_http_1_0": (get(b"Transfer-Encoding: chunked\r\n", version=b"1.0"), "ambiguous_framing"),
    "te_twice": (
        post(b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", b"0\r\n\r\n"),
        "ambiguous_framing",
    ),
    "cl_twice": (post(b"Content-Length: 1\r\nContent-Length: 1\r\n", b"a"), "ambiguous_framing"),
    "cl_leading_zero": (post(b"Content-Length: 01\r\n", b"a"), "ambiguous_framing"),
    "cl_huge": (post(b"Content-Length: 9999999999999999999\r\n", b"a"), "ambiguous_framing"),
    "expectation_other": (get(b"Expect: a-miracle\r\n"), "expectation_failed"),
    "version_0_9": (get(version=b"0.9"), "unsupported_version"),
    "version_2_0": (get(version=b"2.0"), "unsupported_version"),
    "connection_names_host": (get(b"Connection: close, Host\r\n"), "invalid_header"),
    "connection_names_authorization": (get(b"Connection: authorization\r\n"), "invalid_header"),
    "connection_names_content_length": (get(b"Connection: content-length\r\n"), "invalid_header"),
    "name_with_underscore": (get(b"X_Tier: a\r\n"), "invalid_header"),
    "authorization_beyond_ascii": (get(b"Authorization: Bearer \xff\r\n"), "invalid_header"),
    "whitespace_before_colon": (get(b"X-A : 1\r\n"), "malformed_request"),
    "obs_fold": (get(b"X-A: 1\r\n 2\r\n"), "malformed_request"),
    "bare_cr_in_value": (get(b"X-A: 1\r2\r\n"), "malformed_request"),
    "bare_lf_ends_line": (get(b"X-A: 1\nX-B: 2\r\n"), "malformed_request"),
    "nul_in_value": (get(b"X-A: 1\x002\r\n"), "malformed_request"),
    "control_in_value": (get(b"X-A: 1\x012\r\n"), "malformed_request"),
    "name_empty": (get(b": 1\r\n"), "malformed_request"),
    "upgrade_with_body": (
        post(b"Connection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 1\r\n", b"a"),
        "malformed_request",
    ),
    "upgrade_h2c": (get(b"Connection: upgrade\r\nUpgrade: h2c\r\n"), "malformed_request"),
    "http2_preface": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "unsupported_version"),
}


@pytest.mark.parametrize("rule", REFUSED)
def test_rule_refused(rule: str) -> None:
    """What the rule forbids is one failure with its code; no request comes out, and nothing behind it is read."""
    raw, code = REFUSED[rule]
    seen = read(raw, GET)
    assert seen.codes() == [code]
    assert seen.heads == []


@pytest.mark.parametrize("rule", REFUSED)
def test_rule_refused_in_single_bytes(rule: str) -> None:
    """The refusal does not depend on how the bytes were cut."""
    raw, code = REFUSED[rule]
    assert read(*(raw[at : at + 1] for at in range(len(raw)))).codes() == [code]


@pytest.mark.parametrize("coding", [b"gzip", b"gzip, chunked", b"identity", b"chunked, identity", b"xchunked"])
def test_unknown_transfer_coding(coding: bytes) -> None:
    """Any coding but `chunked` alone is refused with a status that closes the connection."""
    seen = read(post(b"Transfer-Encoding: %b\r\n" % coding, b"0\r\n\r\n"), GET)
    assert seen.heads == []
    assert seen.failures[0].status in (400, 501)


@pytest.mark.parametrize("length", [b"+1", b"-1", b"1,1", b"0x1", b"1 1", b"", b"a", b"1_0"])
def test_bad_content_length(length: bytes) -> None:
    """A Content-Length that is no plain decimal number is refused with 400."""
    seen = read(post(b"Content-Length: %b\r\n" % length, b"a"), GET)
    assert seen.heads == []
    assert [error.status for error in seen.failures] == [400]


CHUNK_FAULTS = {
    "size_not_hex": b"g\r\n",
    "size_signed": b"-1\r\na\r\n",
    "size_with_prefix": b"0x1\r\na\r\n",
    "size_with_space_before": b" 1\r\na\r\n",
    "size_ends_with_bare_lf": b"1\na\r\n",
    "data_longer_than_size": b"1\r\nab\r\n",
    "size_overflows": b"1" + b"0" * 20 + b"\r\n",
    "size_missing": b"\r\n",
}


@pytest.mark.parametrize("fault", CHUNK_FAULTS)
def test_bad_chunks_end_the_body(fault: str) -> None:
    """A chunk that is no chunk fails the body as malformed, and nothing behind it becomes a request."""
    seen = read(post(b"Transfer-Encoding: chunked\r\n", CHUNK_FAULTS[fault]), GET)
    assert len(seen.heads) == 1
    assert seen.codes() == ["malformed_request"]


def test_trailers_are_dropped() -> None:
    """A trailer never becomes a field of its request, nor of the next one."""
    seen = read(chunked([b"ab"], trailers=b"Authorization: Bearer x\r\nHost: b\r\n") + GET)
    assert len(seen.heads) == 2
    assert all(b"authorization" not in head.fields for head in seen.heads)
    assert seen.contents() == [b"ab", b""]


def test_a_trailer_about_framing_fails_the_body() -> None:
    """A Content-Length among the trailers is an attempt on the framing: nothing behind it is read."""
    seen = read(chunked([b"ab"], trailers=b"Content-Length: 5\r\n") + GET)
    assert len(seen.heads) == 1
    assert seen.codes() == ["ambiguous_framing"]


def test_endless_chunk_extensions_end_the_body() -> None:
    """Extensions that outweigh the body by far are refused while they come."""
    seen = Seen()
    reader = seen.reader()
    reader.feed(post(b"Transfer-Encoding: chunked\r\n", b"1;"))
    for _ in range(80):
        reader.feed(b"a" * 1024)
    assert seen.codes() == ["body_too_large"]


def test_endless_trailers_end_the_body() -> None:
    """Trailers that never end are refused while they come."""
    seen = Seen()
    reader = seen.reader()
    reader.feed(post(b"Transfer-Encoding: chunked\r\n", b"0\r\n"))
    for _ in range(80):
        reader.feed(b"x: " + b"a" * 1024 + b"\r\n")
    assert seen.codes() == ["body_too_large"]


def test_one_byte_chunks_are_fine() -> None:
    """A body in chunks of one byte stays within the allowance for framing."""
    body = b"a" * 100_000
    assert read(chunked([b"a"] * len(body))).contents() == [body]


def test_target_too_long() -> None:
    """A target above its limit is refused with 414, one of exactly the limit is not."""
    limits = Limits(target_bytes=100)
    assert read(get(target=b"/" + b"a" * 100), limits=limits).codes() == ["target_too_long"]
    assert read(get(target=b"/" + b"a" * 99), limits=limits).codes() == []


def test_8000_octets_of_request_line_are_served() -> None:
    """A request line of 8,000 octets is within the default limits (RFC 9112 section 3)."""
    assert read(get(target=b"/" + b"a" * 7985)).codes() == []


def test_head_too_large_whole_or_in_pieces() -> None:
    """Fields above the limit are refused with 431, wherever the segments end."""
    limits = Limits(head_bytes=1000)
    raw = get(b"x-a: " + b"a" * 1000 + b"\r\n")
    assert read(raw, limits=limits).codes() == ["head_too_large"]
    assert read(*(raw[at : at + 1] for at in range(len(raw))), limits=limits).codes() == ["head_too_large"]


def test_a_head_that_never_ends_is_refused() -> None:
    """A field value without an end is refused as soon as more than a head has come."""
    seen = Seen()
    reader = seen.reader(Limits(head_bytes=1000))
    reader.feed(b"GET /x HTTP/1.1\r\nHost: a\r\nx-a: ")
    for _ in range(20):
        reader.feed(b"a" * 100)
    assert seen.codes() == ["head_too_large"]


def test_too_many_fields() -> None:
    """One field more than allowed is refused with 431."""
    limits = Limits(header_count=5)
    assert read(get(b"x: 1\r\n" * 5), limits=limits).codes() == ["head_too_large"]
    assert read(get(b"x: 1\r\n" * 4), limits=limits).codes() == []


def test_the_body_is_counted_as_it_comes() -> None:
    """A chunked body above the limit fails as too large, though it never said its length."""
    seen = read(chunked([b"a" * 60, b"b" * 60]), limits=Limits(body_bytes=100))
    assert seen.codes() == ["body_too_large"]


def test_expect_continue_is_read() -> None:
    """A 1.1 client's expectation is noted, a 1.0 client's ignored (RFC 9110 section 10.1.1)."""
    assert read(get(b"Expect: 100-continue\r\n")).heads[0].expects_continue
    assert not read(get(b"Expect: 100-Continue\r\n", version=b"1.0")).heads[0].expects_continue


def test_after_stop_nothing_is_read() -> None:
    """Bytes after `stop` are ignored."""
    seen = Seen()
    reader = seen.reader()
    reader.stop()
    reader.feed(GET)
    assert seen.heads == []


def test_data_after_connection_close_is_refused() -> None:
    """A request behind one that said `Connection: close` is a failure, not a request."""
    seen = read(get(b"Connection: close\r\n") + GET)
    assert len(seen.heads) == 1
    assert [error.status for error in seen.failures] == [400]


UPGRADE = get(b"Connection: Upgrade\r\nUpgrade: WebSocket\r\n")


def test_bytes_behind_an_upgrade_wait() -> None:
    """What follows an upgrade is not parsed until the upgrade is decided."""
    seen = Seen()
    reader = seen.reader()
    reader.feed(UPGRADE + b"frame")
    reader.feed(b"-two")
    assert seen.heads[0].upgrade == b"websocket"
    assert reader.take_upgraded() == b"frame-two"
    reader.feed(GET)
    assert len(seen.heads) == 1


def test_a_refused_upgrade_is_read_on_as_http() -> None:
    """After a refusal, the bytes that waited are read as the next requests."""
    seen = Seen()
    reader = seen.reader()
    reader.feed(UPGRADE + GET[:10])
    reader.feed(GET[10:])
    assert len(seen.heads) == 1
    reader.refuse_upgrade()
    assert [head.target.path for head in seen.heads] == ["/x", "/v1/models"]
    reader.feed(GET)
    assert len(seen.heads) == 3


def test_a_client_that_goes_on_behind_an_upgrade_is_not_read_from() -> None:
    """Of the other protocol no more than one read beyond the high water is kept until somebody wants it."""
    seen = Seen()
    reader = seen.reader()
    reader.feed(UPGRADE + b"a" * HIGH_WATER_BYTES)
    assert seen.flow.calls == []
    reader.feed(b"a")
    assert seen.flow.calls == ["pause"]
    assert reader.take_upgraded() == b"a" * (HIGH_WATER_BYTES + 1)
    assert seen.flow.calls == ["pause", "resume"]
