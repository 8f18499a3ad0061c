"""A backend's connection: what it takes for an answer, and when it may serve again."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpubalancer.wire.body import HIGH_WATER_BYTES
from gpubalancer.wire.heads import ResponseHead
from gpubalancer.wire.sweep import NEVER, Sweeper
from gpubalancer.wire.upstream import MOST_HEAD_BYTES, MOST_INTERIM, Upstream, UpstreamError
from tests.wire.fakes import Clock, Transport

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@dataclass
class Sink:
    """Takes a body and its end."""

    pieces: list[bytes] = field(default_factory=list)
    ends: int = 0

    def write(self, piece: bytes, now_s: float, *, last: bool) -> None:
        """Record a piece."""
        self.pieces.append(piece)
        self.ends += last

    @property
    def content(self) -> bytes:
        """All that came."""
        return b"".join(self.pieces)


class Wire:
    """A connection to a backend that the test plays."""

    def __init__(self) -> None:
        self.clock, self.transport, self.lost = Clock(), Transport(), 0
        self.sweeper = Sweeper(self.clock)
        self.upstream = Upstream(self.clock, self.sweeper, self._on_lost)
        self.upstream.connection_made(self.transport)
        self.sink = Sink()

    def _on_lost(self, upstream: Upstream) -> None:
        self.lost += 1

    def ask(self, *, silent: bool = False, upgrade: bool = False) -> None:
        """Send a request."""
        self.sink = Sink()
        self.upstream.send(b"request", wait_s=5.0, between_s=2.0, silent=silent, upgrade=upgrade)

    def head(self) -> ResponseHead:
        """The head, which has come."""
        return self.upstream.answer.result()

    def error(self) -> UpstreamError:
        """Why there is no head."""
        error = self.upstream.answer.exception()
        assert isinstance(error, UpstreamError)
        return error

    def relay(self) -> "asyncio.Future[None] | None":
        """Pass the body to the sink."""
        return self.upstream.relay(self.sink)

    def body_error(self, done: "asyncio.Future[None] | None") -> UpstreamError:
        """Why the body has no end."""
        assert done is not None
        error = done.exception()
        assert isinstance(error, UpstreamError)
        return error

    def answer(self, *pieces: bytes, silent: bool = False) -> None:
        """Ask, and get this answer."""
        self.ask(silent=silent)
        for piece in pieces:
            self.upstream.data_received(piece)


def playing(test: Callable[[Wire], None]) -> Callable[[], None]:
    """Give a test its connection, inside an event loop."""

    def run() -> None:
        async def scene() -> None:
            test(Wire())

        asyncio.run(scene())

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run


def play(scene: Callable[[Wire], None]) -> None:
    """Run a scene with its connection, inside an event loop."""
    playing(scene)()


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
def test_chunks_are_decoded(wire: Wire) -> None:
    """The sink gets the content without its framing, and the end once."""
    wire.answer(CHUNKED)
    done = wire.relay()
    assert done is not None
    wire.upstream.data_received(b"2;a=b\r\nab\r\n")
    assert wire.sink.pieces == [b"ab"]
    wire.upstream.data_received(b"1\r\nc\r\n0\r\nX-T: 1\r\n\r\n")
    assert (wire.sink.content, wire.sink.ends) == (b"abc", 1)
    assert done.done()
    assert wire.upstream.reusable


ANSWERS = st.one_of(
    st.binary(max_size=60).map(
        lambda body: (b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body), body)
    ),
    st.lists(st.binary(min_size=1, max_size=30), max_size=4).map(
        lambda pieces: (
            CHUNKED + b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n",
            b"".join(pieces),
        )
    ),
)


@given(ANSWERS, st.data())
def test_any_split_of_an_answer_gives_the_same_body(answer: tuple[bytes, bytes], data: st.DataObject) -> None:
    """However an answer is cut into segments, and whenever the relay begins, the body is the same and ends once."""
    raw, body = answer
    cuts = sorted(data.draw(st.sets(st.integers(1, len(raw) - 1), max_size=6)))
    pieces = [raw[start:end] for start, end in zip([0, *cuts], [*cuts, len(raw)], strict=True)]
    late = data.draw(st.booleans())

    def scene(wire: Wire) -> None:
        wire.ask()
        relaying = False
        for piece in pieces:
            wire.upstream.data_received(piece)
            if wire.upstream.answer.done() and not relaying and not late:
                wire.relay()
                relaying = True
        if not relaying:
            wire.relay()
        assert (wire.sink.content, wire.sink.ends) == (body, 1)
        assert wire.upstream.reusable

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
def test_bytes_that_nobody_asked_for_close(wire: Wire) -> None:
    """An idle connection on which something comes is closed: it would be taken for the next answer."""
    wire.answer(OK)
    wire.relay()
    wire.upstream.data_received(OK)
    assert wire.transport.closed == "aborted"
    assert not wire.upstream.reusable


@pytest.mark.parametrize(
    "excess", [b"x", b"HTTP/1.1 200 OK\r\n", OK, b"\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx"]
)
def test_excess_bytes_close(excess: bytes) -> None:
    """An answer with bytes behind its end is delivered as it was framed, and its connection closed."""

    def scene(wire: Wire) -> None:
        wire.answer(OK + excess)
        wire.relay()
        assert (wire.sink.content, wire.sink.ends) == (b"ok", 1)
        assert not wire.upstream.reusable

    play(scene)


@playing
def test_interim_answers_are_dropped(wire: Wire) -> None:
    """1xx answers before the final one are not handed over (RFC 9110 section 15.2)."""
    wire.answer(b"HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n" * MOST_INTERIM + OK)
    assert wire.head().status == 200
    assert wire.head().field(b"link") is None


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
def test_a_switch_hands_over_and_keeps_what_follows(wire: Wire) -> None:
    """101 to a request with Upgrade is the final answer; bytes behind it belong to the other protocol."""
    wire.ask(upgrade=True)
    wire.upstream.data_received(
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nframe"
    )
    assert wire.head().status == 101
    assert wire.upstream.leftover == b"frame"


@playing
def test_head_has_no_body(wire: Wire) -> None:
    """The answer to HEAD is complete with its head, whatever length it states, and the connection is not kept."""
    wire.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n", silent=True)
    assert wire.head().length == 99
    assert wire.relay() is None
    assert (wire.sink.content, wire.sink.ends) == (b"", 1)
    assert not wire.upstream.reusable


@pytest.mark.parametrize("status", [204, 304])
def test_bodiless_statuses(status: int) -> None:
    """204 and 304 are complete with their heads, and the connection serves again."""

    def scene(wire: Wire) -> None:
        wire.answer(b"HTTP/1.1 %d X\r\n\r\n" % status)
        assert wire.relay() is None
        assert (wire.sink.content, wire.sink.ends) == (b"", 1)
        assert wire.upstream.reusable

    play(scene)


@playing
def test_204_with_a_body_closes(wire: Wire) -> None:
    """A body where none may be is not passed on, and its connection not used again (RFC 9112 section 6.3)."""
    wire.answer(b"HTTP/1.1 204 No Content\r\nContent-Length: 4\r\n\r\nevil")
    wire.relay()
    assert wire.sink.content == b""
    assert not wire.upstream.reusable


@playing
def test_an_answer_ended_by_the_connection(wire: Wire) -> None:
    """Without framing the body ends with the connection, which is not used again."""
    wire.answer(b"HTTP/1.1 200 OK\r\n\r\n")
    done = wire.relay()
    assert done is not None
    wire.upstream.data_received(b"abc")
    assert (wire.sink.content, wire.sink.ends, done.done()) == (b"abc", 0, False)
    wire.upstream.eof_received()
    wire.upstream.connection_lost(None)
    assert (wire.sink.content, wire.sink.ends) == (b"abc", 1)
    assert done.exception() is None
    assert not wire.upstream.reusable


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
def test_a_body_that_nobody_relays_yet_is_held_back(wire: Wire) -> None:
    """Above the high water mark the backend is not read from until the relay begins."""
    wire.answer(CHUNKED)
    piece = b"%x\r\n%b\r\n" % (40_000, b"a" * 40_000)
    wire.upstream.data_received(piece)
    assert wire.transport.reading
    wire.upstream.data_received(piece)
    assert not wire.transport.reading
    wire.relay()
    assert wire.transport.reading
    assert len(wire.sink.content) == 80_000 > HIGH_WATER_BYTES


@playing
def test_pause_and_resume(wire: Wire) -> None:
    """Pausing twice pauses once, and resuming twice resumes once."""
    wire.answer(CHUNKED)
    wire.relay()
    wire.upstream.pause_reading()
    wire.upstream.pause_reading()
    assert not wire.transport.reading
    wire.upstream.resume_reading()
    wire.upstream.resume_reading()
    assert wire.transport.reading


@playing
def test_a_paused_connection_rests_unpaused(wire: Wire) -> None:
    """An answer that ended while the client was slow does not leave the connection paused."""
    wire.answer(CHUNKED)
    wire.relay()
    wire.upstream.pause_reading()
    wire.upstream.data_received(b"0\r\n\r\n")
    assert wire.transport.reading
    assert wire.upstream.reusable


@playing
def test_the_request_is_held_back_when_the_backend_is_slow(wire: Wire) -> None:
    """The transport's pauses reach whoever sends the body."""
    told: list[bool] = []
    wire.ask()
    wire.upstream.throttle(told.append)
    wire.upstream.pause_writing()
    wire.upstream.resume_writing()
    wire.upstream.throttle(None)
    wire.upstream.pause_writing()
    assert told == [False, True]


@playing
def test_an_early_answer_stops_the_request(wire: Wire) -> None:
    """Once the answer has begun nothing more of the request is sent (RFC 9112 section 9.3)."""
    wire.ask()
    wire.upstream.write(b"+one")
    wire.upstream.data_received(OK)
    wire.upstream.write(b"+two")
    assert wire.transport.written == b"request+one"


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


@pytest.mark.parametrize("raw", [b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
                                 b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok"])  # fmt: skip
def test_an_answer_that_closes(raw: bytes) -> None:
    """`Connection: close` and HTTP/1.0 end the connection after their answer."""

    def scene(wire: Wire) -> None:
        wire.answer(raw)
        wire.relay()
        assert (wire.sink.content, wire.sink.ends) == (b"ok", 1)
        assert not wire.upstream.reusable

    play(scene)


# Deadlines.


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
