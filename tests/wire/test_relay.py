"""An answer, observed as it passes."""

from hypothesis import given
from hypothesis import strategies as st

from gpubalancer.wire.relay import Relay
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
    assert (passing.first_s, passing.last_s, passing.received_bytes) == (10.0, 11.0, 4)


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
    assert (passing.first_s, passing.last_s, passing.received_bytes) == (1.0, 2.0, 11)
    assert passing.tail(9) == b"rstsecond"


def test_a_chunk_is_unpacked_where_the_answer_is_not_chunked() -> None:
    """A client of HTTP/1.0 gets what is in the chunk."""
    passing, client = relay()
    passing.write_chunk(b"5\r\nfirst\r\n", b"first", 1.0)
    assert client.sent.endswith(b"\r\n\r\nfirst")
