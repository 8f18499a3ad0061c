"""A backend's connection: what it takes for an answer, and how it passes one on.

What it refuses stands in `test_upstream_faults`, when it serves again in `test_upstream_reuse`.
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpubalancer.wire.body import HIGH_WATER_BYTES
from gpubalancer.wire.upstream import MOST_INTERIM
from tests.wire.upstream_stage import CHUNKED, OK, Wire, play, playing


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


@playing
def test_interim_answers_are_dropped(wire: Wire) -> None:
    """1xx answers before the final one are not handed over (RFC 9110 section 15.2)."""
    wire.answer(b"HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n" * MOST_INTERIM + OK)
    assert wire.head().status == 200
    assert wire.head().field(b"link") is None


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
