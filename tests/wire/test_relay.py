"""An answer, observed as it passes."""

from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpubalancer.wire.relay import Relay, WatchedRelay
from tests.wire.fakes import Client, exchange_of


def relay() -> tuple[Relay, Client]:
    """A relay to a client, whose answer has a known length."""
    exchange, client = exchange_of(b"GET /x HTTP/1.0\r\n\r\n")
    exchange.begin(200, b"", None)
    return Relay(exchange), client


def test_pieces_pass_and_are_timed() -> None:
    """Every piece goes on; the first and the last one's times are kept."""
    passing, client = relay()
    passing.write(b"ab", 10.0, last=False)
    passing.write(b"cd", 11.0, last=False)
    passing.write(b"", 12.0, last=True)
    assert client.sent.endswith(b"\r\n\r\nabcd")
    assert client.calls == ["ended"]
    assert (passing.first_s, passing.last_s) == (10.0, 11.0)


def test_an_answer_without_a_body_has_no_times() -> None:
    """An end is no piece."""
    passing, client = relay()
    passing.write(b"", 10.0, last=True)
    assert (passing.first_s, passing.last_s, passing.tail(10), client.calls) == (0.0, 0.0, b"", ["ended"])


@given(st.lists(st.binary(min_size=1, max_size=9), max_size=9), st.integers(1, 40))
def test_the_tail_is_the_end(pieces: list[bytes], most_bytes: int) -> None:
    """The tail is the end of what passed, never more than asked for, and holds the last four pieces if they fit."""
    passing, _ = relay()
    for piece in pieces:
        passing.write(piece, 1.0, last=False)
    tail = passing.tail(most_bytes)
    assert b"".join(pieces).endswith(tail)
    assert len(tail) == min(most_bytes, sum(map(len, pieces[-4:])))


def test_a_chunk_goes_on_as_it_came_where_the_answer_is_chunked() -> None:
    """The bytes of a whole chunk are not written anew, and count as what is in them."""
    exchange, client = exchange_of(b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n")
    exchange.begin(200, b"", None)
    passing = Relay(exchange)
    passing.write_chunk(b"5\r\nfirst\r\n", b"first", 1.0)
    passing.write_chunk(b"6\r\nsecond\r\n", b"second", 2.0)
    assert client.sent.endswith(b"6\r\nsecond\r\n")
    assert client.sent.count(b"5\r\nfirst\r\n") == 1
    assert (passing.first_s, passing.last_s) == (1.0, 2.0)
    assert passing.tail(9) == b"rstsecond"


def test_a_chunk_is_unpacked_where_the_answer_is_not_chunked() -> None:
    """A client of HTTP/1.0 gets what is in the chunk."""
    passing, client = relay()
    passing.write_chunk(b"5\r\nfirst\r\n", b"first", 1.0)
    assert client.sent.endswith(b"\r\n\r\nfirst")


class FakeWatch:
    """Takes `[T]` and a blank line for a token's event; what it looks at it returns without its dashes."""

    def __init__(self, *, complete: bool = True) -> None:
        self.newlines, self.boundary, self.mark, self.marked = -1, b"\n\n", b"[T]", 0
        self.tail: deque[bytes] = deque(maxlen=4)
        self.looked: list[bytes] = []
        self.ends_well = complete

    def look(self, piece: bytes) -> bytes:
        """Take a piece; the next may be plain."""
        self.newlines = 2
        self.looked.append(piece)
        return piece.replace(b"-", b"") if b"-" in piece else piece

    def close(self) -> bytes:
        """Give what was held."""
        return b"held"

    def complete(self) -> bool:
        """What the test said."""
        return self.ends_well


def watched(watch: FakeWatch) -> tuple[WatchedRelay, Client]:
    """A relay of a stream that is sent in chunks, whose head has gone."""
    exchange, client = exchange_of(b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n")
    exchange.begin(200, b"", None)
    exchange.flush()
    client.sent = b""
    return WatchedRelay(exchange, watch), client


def test_an_event_with_a_token_is_counted_and_not_looked_at() -> None:
    """After the first piece, one whole event with the mark goes on as it came; it is in the tail."""
    watch = FakeWatch()
    passing, client = watched(watch)
    for chunk, now_s in ((b"5\r\nfirst\r\n", 1.0), (b"5\r\n[T]\n\n\r\n", 2.0)):
        passing.write_chunk(chunk, chunk[3:-2], now_s)
    passing.write(b"[T]\n\n", 3.0, last=False)
    assert client.sent == b"5\r\nfirst\r\n5\r\n[T]\n\n\r\n5\r\n[T]\n\n\r\n"
    assert (watch.looked, watch.marked, list(watch.tail)) == ([b"first"], 2, [b"[T]\n\n"] * 2)
    assert (passing.first_s, passing.last_s) == (1.0, 3.0)


@pytest.mark.parametrize("piece", [b"[T]\n", b"[T]", b"[x]\n\n", b"[T]\n\n[x]\n\n", b"[T]\n\n[", b"\n[T]\n"])
def test_everything_else_is_looked_at(piece: bytes) -> None:
    """Parts of events, several events and events without the mark are the watch's to judge."""
    watch = FakeWatch()
    passing, client = watched(watch)
    watch.newlines = 2
    passing.write_chunk(b"%x\r\n%b\r\n" % (len(piece), piece), piece, 1.0)
    passing.write(piece, 1.0, last=False)
    assert watch.looked == [piece, piece]
    assert client.sent == b"%x\r\n%b\r\n" % (len(piece), piece) * 2


def test_what_a_watch_takes_out_does_not_go_on() -> None:
    """A piece of which something is missing is a chunk of its own; one of which nothing is left is none."""
    watch = FakeWatch()
    passing, client = watched(watch)
    passing.write_chunk(b"3\r\na-b\r\n", b"a-b", 1.0)
    passing.write_chunk(b"1\r\n-\r\n", b"-", 1.0)
    passing.write(b"-c", 1.0, last=False)
    assert client.sent == b"2\r\nab\r\n1\r\nc\r\n"


def test_a_complete_answer_ends_in_one_write() -> None:
    """What was held, and the end of the framing, leave with the last piece."""
    passing, client = watched(FakeWatch())
    before = client.writes
    passing.write(b"last", 1.0, last=True)
    assert (client.sent, client.writes - before, client.calls) == (b"8\r\nlastheld\r\n0\r\n\r\n", 1, ["ended"])
    assert not passing.withheld


@pytest.mark.parametrize("piece", [b"last", b""])
def test_the_end_of_an_incomplete_answer_is_withheld(piece: bytes) -> None:
    """All that came goes on, and the end of the framing does not."""
    passing, client = watched(FakeWatch(complete=False))
    passing.write(piece, 1.0, last=True)
    assert client.sent == b"%x\r\n%bheld\r\n" % (len(piece) + 4, piece)
    assert (client.calls, passing.withheld) == ([], True)
