"""What a backend's connection does not take for an answer, and how it says so."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpubalancer.wire.upstream import MOST_HEAD_BYTES, MOST_INTERIM
from tests.wire.upstream_stage import CHUNKED, OK, Wire, play, playing

BAD = {
    "both lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok",
    "different lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok",
    "negative length": b"HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\nok",
    "other coding": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nok",
    "chunks in 1.0": b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "space before colon": b"HTTP/1.1 200 OK\r\nContent-Length : 2\r\n\r\nok",
    "obs-fold": b"HTTP/1.1 200 OK\r\nX-A: 1\r\n 2\r\nContent-Length: 2\r\n\r\nok",
    "bare CR": b"HTTP/1.1 200 OK\r\nX-A: 1\r2\r\nContent-Length: 2\r\n\r\nok",
    "NUL": b"HTTP/1.1 200 OK\r\nX-A: 1\x002\r\nContent-Length: 2\r\n\r\nok",
    "status out of range": b"HTTP/1.1 600 X\r\nContent-Length: 2\r\n\r\nok",
    "no HTTP": b"SSH-2.0-OpenSSH\r\n",
    "request": b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "HTTP/2.0": b"HTTP/2.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
}


@pytest.mark.parametrize("fault", BAD)
def test_a_bad_head_is_the_backends_failure(fault: str) -> None:
    """A head of two meanings is discarded and its connection closed (RFC 9112 section 6.3)."""

    def scene(wire: Wire) -> None:
        wire.answer(BAD[fault])
        error = wire.error()
        assert (error.phase, error.silent, error.timed_out) == ("head", False, False)
        assert wire.transport.closed == "aborted"

    play(scene)


@given(st.binary(max_size=200), st.integers(0, 200))
def test_no_bytes_make_the_connection_raise(noise: bytes, cut: int) -> None:
    """Arbitrary bytes of a backend end in an answer or an `UpstreamError`, never in another exception."""

    def scene(wire: Wire) -> None:
        wire.answer(noise[:cut], noise[cut:])
        wire.upstream.connection_lost(None)
        if not wire.upstream.answer.exception():
            wire.relay()

    play(scene)


@playing
def test_interim_answers_are_bounded(wire: Wire) -> None:
    """One 1xx answer too many is the backend's failure."""
    wire.answer(b"HTTP/1.1 100 Continue\r\n\r\n" * (MOST_INTERIM + 1))
    assert wire.error().phase == "head"
    assert wire.transport.closed == "aborted"


@playing
def test_a_switch_that_nobody_asked_for_is_a_failure(wire: Wire) -> None:
    """101 to a request without Upgrade is refused."""
    wire.answer(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")
    assert wire.error().phase == "head"


@playing
def test_an_unframed_answer_that_breaks_is_no_answer(wire: Wire) -> None:
    """A reset is not the end of a body that ends with the connection."""
    wire.answer(b"HTTP/1.1 200 OK\r\n\r\nabc")
    done = wire.relay()
    wire.upstream.connection_lost(ConnectionResetError("reset"))
    assert wire.sink.ends == 0
    assert wire.body_error(done).phase == "body"


@pytest.mark.parametrize("start", [b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc", CHUNKED + b"3\r\nabc\r\n"])
@pytest.mark.parametrize("error", [None, ConnectionResetError("reset")])
def test_a_truncated_body(start: bytes, error: Exception | None) -> None:
    """A framed body that stops early is an error in phase `body`, and the sink never sees an end."""

    def scene(wire: Wire) -> None:
        wire.answer(start)
        done = wire.relay()
        wire.upstream.eof_received()
        wire.upstream.connection_lost(error)
        failure = wire.body_error(done)
        assert (failure.phase, failure.silent) == ("body", False)
        assert (wire.sink.content, wire.sink.ends, wire.lost) == (b"abc", 0, 1)

    play(scene)


def test_a_connection_that_closes_before_an_answer() -> None:
    """No byte of an answer is `silent`; `reused` tells that the connection had served before."""

    def scene(wire: Wire) -> None:
        wire.ask()
        wire.upstream.connection_lost(None)
        error = wire.error()
        assert (error.phase, error.silent, error.reused, error.timed_out) == ("head", True, False, False)
        again = Wire()
        again.answer(OK)
        again.relay()
        again.ask()
        again.upstream.connection_lost(None)
        assert again.error().reused

    play(scene)


@playing
def test_half_a_head_is_not_silent(wire: Wire) -> None:
    """A backend that began to answer may have acted on the request."""
    wire.answer(b"HTTP/1.1 2")
    wire.upstream.connection_lost(None)
    assert (wire.error().phase, wire.error().silent) == ("head", False)


@pytest.mark.parametrize("line", [b"x-a: " + b"a" * 1000 + b"\r\n", b"x: 1\r\n"])
def test_an_endless_head(line: bytes) -> None:
    """A head that never ends fails after a bounded number of bytes."""

    def scene(wire: Wire) -> None:
        wire.answer(b"HTTP/1.1 200 OK\r\n")
        fed_bytes = 0
        while not wire.upstream.answer.done():
            wire.upstream.data_received(line)
            fed_bytes += len(line)
            assert fed_bytes < 3 * MOST_HEAD_BYTES
        assert wire.error().phase == "head"

    play(scene)


@playing
def test_endless_chunk_extensions(wire: Wire) -> None:
    """Framing that outweighs the body by far ends the answer as a failure."""
    wire.answer(CHUNKED + b"1;")
    done = wire.relay()
    for _ in range(80):
        wire.upstream.data_received(b"a" * 1024)
    assert wire.body_error(done).phase == "body"


@playing
def test_endless_trailers(wire: Wire) -> None:
    """Trailers without an end are a failure, too."""
    wire.answer(CHUNKED + b"0\r\n")
    done = wire.relay()
    for _ in range(80):
        wire.upstream.data_received(b"x: " + b"a" * 1024 + b"\r\n")
    assert wire.body_error(done).phase == "body"


@playing
def test_one_byte_chunks_are_fine(wire: Wire) -> None:
    """Tokens of one byte, each in its own chunk, stay within the allowance."""
    wire.answer(CHUNKED)
    wire.relay()
    for _ in range(3000):
        wire.upstream.data_received(b"1\r\na\r\n" * 20)
    wire.upstream.data_received(b"0\r\n\r\n")
    assert (len(wire.sink.content), wire.sink.ends) == (60_000, 1)


@playing
def test_an_answer_that_does_not_begin(wire: Wire) -> None:
    """After `wait_s` without an answer the request fails as timed out."""
    wire.ask()
    wire.clock.now_s += 4.9
    wire.sweeper.sweep()
    assert not wire.upstream.answer.done()
    wire.clock.now_s += 0.2
    wire.sweeper.sweep()
    assert (wire.error().timed_out, wire.error().phase, wire.error().silent) == (True, "head", True)
    assert wire.transport.closed == "aborted"


@playing
def test_an_answer_that_stalls(wire: Wire) -> None:
    """Each piece gives `between_s` more; a longer silence breaks the answer off."""
    wire.answer(CHUNKED)
    done = wire.relay()
    for _ in range(4):
        wire.clock.now_s += 1.9
        wire.sweeper.sweep()
        wire.upstream.data_received(b"1\r\na\r\n")
    wire.clock.now_s += 2.1
    wire.sweeper.sweep()
    assert wire.body_error(done).timed_out
    assert (wire.sink.content, wire.sink.ends) == (b"aaaa", 0)


@playing
def test_a_backend_that_we_hold_back_is_not_late(wire: Wire) -> None:
    """While reading is paused no time runs against the backend."""
    wire.answer(CHUNKED)
    done = wire.relay()
    wire.upstream.pause_reading()
    for _ in range(5):
        wire.clock.now_s += 3.0
        wire.sweeper.sweep()
    assert done is not None
    assert not done.done()
