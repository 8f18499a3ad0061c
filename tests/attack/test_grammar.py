"""The judge itself: what is strict passes whole, what is not is named, and an unfinished rest is neither."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.attack.answers import read_answers
from tests.attack.grammar import NotCanonical, leaks, read_requests

GET = b"GET /x?y=%20 HTTP/1.1\r\nHost: a.example:80\r\nX-Note: a\tb \xe9\r\n\r\n"
SIZED = b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = (
    b"PUT / HTTP/1.1\r\nHost: [::1]\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nA\r\n0123456789\r\n0\r\n\r\n"
)


def _request(start: bytes = b"GET / HTTP/1.1", *lines: bytes, body: bytes = b"") -> bytes:
    return b"\r\n".join((start, b"Host: a", *lines, b"", body))


def test_whole_requests_are_read_in_order() -> None:
    """Three requests on one connection come out with methods, targets, fields and bodies, and nothing is left."""
    requests, rest = read_requests(GET + SIZED + CHUNKED)
    assert [(request.method, request.target, request.body) for request in requests] == [
        ("GET", "/x?y=%20", b""),
        ("POST", "/x", b"hello"),
        ("PUT", "/", b"hello0123456789"),
    ]
    assert requests[0].fields == (("Host", "a.example:80"), ("X-Note", "a\tb \xe9"))
    assert [request.size_bytes for request in requests] == [len(GET), len(SIZED), len(CHUNKED)]
    assert rest == b""


@given(st.integers(0, len(GET + SIZED + CHUNKED)))
def test_every_beginning_of_strict_bytes_is_strict(cut: int) -> None:
    """A connection cut anywhere is unfinished, never uncanonical."""
    requests, rest = read_requests((GET + SIZED + CHUNKED)[:cut])
    assert sum(request.size_bytes for request in requests) + len(rest) == cut


NOT_STRICT = {
    "request line": [
        _request(b"GET  / HTTP/1.1"),
        _request(b"GET / HTTP/1.0"),
        _request(b"GET / HTTP/2.0"),
        _request(b"GET\t/ HTTP/1.1"),
        _request(b"G(T / HTTP/1.1"),
        _request(b"GET /"),
        _request(b" GET / HTTP/1.1"),
    ],
    "target": [
        _request(b"GET http://a/ HTTP/1.1"),
        _request(b"GET * HTTP/1.1"),
        _request(b"GET /%zz HTTP/1.1"),
        _request(b"GET /# HTTP/1.1"),
        _request(b"GET /\xe9 HTTP/1.1"),
        _request(b'GET /" HTTP/1.1'),
        _request(b"GET ?x HTTP/1.1"),
    ],
    "field line": [
        _request(b"GET / HTTP/1.1", b"X-A : b"),
        _request(b"GET / HTTP/1.1", b" X-A: b"),
        _request(b"GET / HTTP/1.1", b"X-A: b "),
        _request(b"GET / HTTP/1.1", b"X-A:  b"),
        _request(b"GET / HTTP/1.1", b"X_A: b"),
        _request(b"GET / HTTP/1.1", b"X-A"),
        _request(b"GET / HTTP/1.1", b": b"),
    ],
    "control character, bare CR or bare LF": [
        _request(b"GET / HTTP/1.1", b"X-A: b\nX-B: c"),
        _request(b"GET / HTTP/1.1", b"X-A: b\rX-B: c"),
        _request(b"GET / HTTP/1.1", b"X-A: \x00"),
        _request(b"GET / HTTP/1.1", b"X-A: b\r"),
        b"GET / HTTP/1.1\nHost: a\n\n",
        b"\x16\x03\x01",
    ],
    "empty line before a head": [b"\r\n" + GET],
    "Host": [
        b"GET / HTTP/1.1\r\nX-A: b\r\n\r\n",
        _request(b"GET / HTTP/1.1", b"host: a"),
        b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a:b\r\n\r\n",
    ],
    "more than one framing": [
        _request(b"POST / HTTP/1.1", b"Content-Length: 0", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n"),
        _request(b"POST / HTTP/1.1", b"Content-Length: 0", b"Content-Length: 0"),
        _request(b"POST / HTTP/1.1", *[b"Transfer-Encoding: chunked"] * 2, body=b"0\r\n\r\n"),
    ],
    "Content-Length": [
        _request(b"POST / HTTP/1.1", b"Content-Length: " + value, body=b"hello")
        for value in (b"05", b"+5", b"5, 5", b"0x5", b"", b"5 5", b"9" * 20)
    ],
    "Transfer-Encoding": [
        _request(b"POST / HTTP/1.1", b"Transfer-Encoding: " + value, body=b"0\r\n\r\n")
        for value in (b"identity", b"gzip, chunked", b"chunked, chunked", b"xchunked", b"")
    ],
    "chunk size": [
        _request(b"POST / HTTP/1.1", b"Transfer-Encoding: chunked", body=body)
        for body in (b"5;a\r\nhello\r\n", b"g\r\n", b"\r\n", b" 5\r\n", b"5\nhello", b"0x5\r\n", b"1" * 17 + b"\r\n")
    ],
    "CRLF after chunk data": [
        _request(b"POST / HTTP/1.1", b"Transfer-Encoding: chunked", body=body)
        for body in (b"5\r\nhello0\r\n\r\n", b"5\r\nhello\n0", b"5\r\nhello!\r\n")
    ],
    "trailer": [_request(b"POST / HTTP/1.1", b"Transfer-Encoding: chunked", body=b"0\r\nX-A: b\r\n\r\n")],
    "bytes after a request with Connection: close": [_request(b"GET / HTTP/1.1", b"Connection: close") + GET],
}


@pytest.mark.parametrize(("reason", "data"), [(reason, data) for reason, rows in NOT_STRICT.items() for data in rows])
def test_what_is_not_strict_is_named(reason: str, data: bytes) -> None:
    """Each deviation is refused for its own reason, also behind a good request."""
    with pytest.raises(NotCanonical) as verdict:
        read_requests(data)
    assert verdict.value.reason == reason
    with pytest.raises(NotCanonical):
        read_requests(GET + data)


def test_what_should_end_at_a_proxy_is_found() -> None:
    """Hop-by-hop fields, the proxy's own names and nominations are listed, plain ones are not."""
    lines = (b"TE: trailers", b"Connection: keep-alive, x-a", b"X-Gpubalancer-Tier: public", b"X-Plain: 1")
    (request,), _ = read_requests(_request(b"GET / HTTP/1.1", *lines))
    assert leaks(request) == ["connection: x-a", "te", "x-gpubalancer-tier"]
    (request,), _ = read_requests(_request(b"GET / HTTP/1.1", b"Connection: close"))
    assert leaks(request) == []


ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
CHUNKED_ANSWER = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"
CLOSED_ANSWER = b"HTTP/1.1 200 OK\r\n\r\nok"
HEAD_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"


def test_answers_are_read_in_order() -> None:
    """Interim answers belong to the final one behind them, and a HEAD has no body."""
    data = b"HTTP/1.1 100 Continue\r\n\r\n" + HEAD_ANSWER + CHUNKED_ANSWER + ANSWER
    answers = read_answers(data, ["HEAD"], ended=False)
    assert [(answer.status, answer.body, answer.complete, answer.interim) for answer in answers] == [
        (200, b"", True, (100,)),
        (200, b"ok", True, ()),
        (200, b"ok", True, ()),
    ]


@pytest.mark.parametrize("data", [ANSWER, CHUNKED_ANSWER])
def test_broken_off_answers_are_incomplete(data: bytes) -> None:
    """An answer cut anywhere is incomplete, however the connection ended."""
    for cut in range(1, len(data)):
        (answer,) = read_answers(data[:cut], (), ended=True)
        assert not answer.complete


def test_answer_without_framing_ends_with_the_connection() -> None:
    """Without length or chunks only the close makes an answer whole."""
    assert [answer.complete for answer in read_answers(CLOSED_ANSWER, (), ended=False)] == [False]
    assert [answer.complete for answer in read_answers(CLOSED_ANSWER, (), ended=True)] == [True]


def test_bytes_that_are_no_answer_are_named() -> None:
    """A second answer where a body should be over is read as what it is: rubbish or a status line."""
    with pytest.raises(NotCanonical):
        read_answers(ANSWER + b"!\r\n\r\n", (), ended=True)
    with pytest.raises(NotCanonical):
        read_answers(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok", (), ended=True)
