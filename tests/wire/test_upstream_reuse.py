"""When a backend's connection may serve again, and when it must not."""

import pytest

from gpubalancer.wire.sweep import NEVER
from tests.wire.upstream_stage import CHUNKED, OK, Wire, play, playing


@playing
def test_a_connection_serves_again(wire: Wire) -> None:
    """After a complete answer of known length the next request goes out on the same connection."""
    for served in (1, 2, 3):
        wire.answer(OK)
        assert wire.head().status == 200
        assert wire.relay() is None
        assert (wire.sink.content, wire.sink.ends) == (b"ok", 1)
        assert wire.upstream.reusable
        assert wire.upstream.served == served
    assert wire.transport.written == b"request" * 3


@playing
def test_bytes_that_nobody_asked_for_close(wire: Wire) -> None:
    """An idle connection on which something comes is closed: it would be taken for the next answer."""
    wire.answer(OK)
    wire.relay()
    wire.upstream.data_received(OK)
    assert wire.transport.closed == "aborted"
    assert not wire.upstream.reusable


LAST = {
    "rubbish behind": OK + b"x",
    "half an answer behind": OK + b"HTTP/1.1 200 OK\r\n",
    "an answer behind": OK + OK,
    "a line end and an answer behind": OK + b"\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx",
    "Connection: close": b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
    "HTTP/1.0": b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
}


@pytest.mark.parametrize("what", LAST)
def test_a_last_answer(what: str) -> None:
    """An answer that is the last, or has bytes behind its end, is passed on as framed, and nothing follows it."""

    def scene(wire: Wire) -> None:
        wire.answer(LAST[what])
        wire.relay()
        assert (wire.sink.content, wire.sink.ends) == (b"ok", 1)
        assert not wire.upstream.reusable

    play(scene)


@playing
def test_204_with_a_body_closes(wire: Wire) -> None:
    """A body where none may be is not passed on, and its connection not used again (RFC 9112 section 6.3)."""
    wire.answer(b"HTTP/1.1 204 No Content\r\nContent-Length: 4\r\n\r\nevil")
    wire.relay()
    assert wire.sink.content == b""
    assert not wire.upstream.reusable


@playing
def test_a_paused_connection_rests_unpaused(wire: Wire) -> None:
    """An answer that ended while the client was slow does not leave the connection paused."""
    wire.answer(CHUNKED)
    wire.relay()
    wire.upstream.pause_reading()
    wire.upstream.data_received(b"0\r\n\r\n")
    assert wire.transport.reading
    assert wire.upstream.reusable


@pytest.mark.parametrize("ended", [True, False])
def test_a_request_without_its_end_forbids_reuse(ended: bool) -> None:
    """A connection serves again only if the whole request went out before the answer (RFC 9112 section 9.3)."""

    def scene(wire: Wire) -> None:
        wire.upstream.send(b"head", wait_s=5.0, between_s=2.0, more=True)
        wire.upstream.write(b"+piece")
        if ended:
            wire.upstream.end_request(b"+end")
        wire.upstream.data_received(OK)
        wire.relay()
        assert wire.transport.written == (b"head+piece+end" if ended else b"head+piece")
        assert wire.upstream.reusable is ended
        wire.upstream.end_request(b"+late")
        assert b"late" not in wire.transport.written

    play(scene)


@playing
def test_unsent_bytes_forbid_reuse(wire: Wire) -> None:
    """A connection on which part of the request still waits is closed after its answer."""
    wire.ask()
    wire.transport.unsent_bytes = 10
    wire.upstream.data_received(OK)
    wire.relay()
    assert wire.sink.content == b"ok"
    assert not wire.upstream.reusable


@playing
def test_an_idle_connection_grows_old(wire: Wire) -> None:
    """An idle connection is closed when its time is over."""
    wire.answer(OK)
    wire.relay()
    assert wire.upstream.deadline_s == NEVER
    wire.upstream.rest(wire.clock() + 60)
    wire.clock.now_s += 59
    wire.sweeper.sweep()
    assert wire.upstream.reusable
    wire.clock.now_s += 2
    wire.sweeper.sweep()
    assert wire.transport.closed == "aborted"


@playing
def test_a_lost_connection_is_swept_no_more(wire: Wire) -> None:
    """A connection that is gone leaves the sweeper and tells its owner."""
    assert len(wire.sweeper) == 1
    wire.upstream.connection_lost(None)
    assert (len(wire.sweeper), wire.lost, wire.upstream.state) == (0, 1, "closed")
