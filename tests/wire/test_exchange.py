"""The answer to a client: its framing, and that it ends exactly once."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpubalancer.domain.errors import RequestError
from gpubalancer.wire.exchange import Exchange
from tests.wire.fakes import Client, exchange_of

GET = b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n"
GET_1_0 = b"GET /x HTTP/1.0\r\n\r\n"
HEAD = b"HEAD /x HTTP/1.1\r\nHost: a\r\n\r\n"
LAST_CHUNK = b"0\r\n\r\n"


def dechunk(raw: bytes) -> tuple[bytes, bool]:
    """The content of chunks, and whether the last chunk was there."""
    content = b""
    while raw:
        size, _, rest = raw.partition(b"\r\n")
        length = int(size, 16)
        assert rest[length : length + 2] == b"\r\n"
        if not length:
            assert rest == b"\r\n"
            return content, True
        content, raw = content + rest[:length], rest[length + 2 :]
    return content, False


def parts(client: Client) -> tuple[bytes, bytes]:
    """Head and body of what was sent."""
    head, _, body = client.sent.partition(b"\r\n\r\n")
    return head, body


def test_reply_is_one_message() -> None:
    """An answer of our own has status, our lines, its length and its content."""
    exchange, client = exchange_of(GET)
    exchange.reply(404, b"content-type: text/plain\r\n", b"nothing")
    assert client.sent == (b"HTTP/1.1 404 Not Found\r\ncontent-type: text/plain\r\ncontent-length: 7\r\n\r\nnothing")
    assert (client.calls, exchange.ended, exchange.status, exchange.sent_bytes) == (["ended"], True, 404, 7)


def test_reply_to_head_has_no_content() -> None:
    """HEAD gets the length that GET would get, and nothing more (RFC 9110 section 9.3.2)."""
    exchange, client = exchange_of(HEAD)
    exchange.reply(200, b"", b"nothing")
    assert client.sent == b"HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\n"
    assert client.calls == ["ended"]


def test_a_known_length_is_relayed_as_it_is() -> None:
    """With a length, pieces pass without chunk marks, and the head leaves with the first."""
    exchange, client = exchange_of(GET)
    exchange.begin(200, b"", 4)
    assert client.sent == b""
    exchange.write(b"ab")
    exchange.write(b"cd", last=True)
    assert client.sent == b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nabcd"
    assert (client.writes, client.calls) == (2, ["ended"])


@given(st.lists(st.binary(max_size=50) | st.just(b"x" * 20_000), max_size=6), st.booleans())
def test_chunked_framing(pieces: list[bytes], last_with_piece: bool) -> None:
    """An unknown length is chunked: any pieces come out whole, with one last chunk, however the end is told."""
    exchange, client = exchange_of(GET)
    exchange.begin(200, b"", None)
    for number, piece in enumerate(pieces):
        exchange.write(piece, last=last_with_piece and number == len(pieces) - 1)
    exchange.end()
    head, body = parts(client)
    assert b"transfer-encoding: chunked" in head
    assert b"content-length" not in head
    assert dechunk(body) == (b"".join(pieces), True)
    assert exchange.sent_bytes == sum(map(len, pieces))
    assert client.calls == ["ended"]


def test_http_1_0_gets_no_chunks() -> None:
    """For HTTP/1.0 an unknown length ends with the connection, even if it asked to be kept."""
    exchange, client = exchange_of(b"GET /x HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
    exchange.begin(200, b"", None)
    exchange.write(b"ab")
    exchange.write(b"cd", last=True)
    assert client.sent == b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nabcd"
    assert not exchange.keep_alive


def test_http_1_0_is_kept_alive_when_it_asks_and_the_length_is_known() -> None:
    """Persistence of HTTP/1.0 is confirmed in the answer."""
    exchange, client = exchange_of(b"GET /x HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
    exchange.reply(200, b"", b"a")
    assert b"\r\nconnection: keep-alive\r\n" in client.sent
    assert exchange.keep_alive


def test_connection_close_is_confirmed() -> None:
    """A client that wants to close is told that we do."""
    exchange, client = exchange_of(b"GET /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    exchange.reply(200, b"", b"a")
    assert b"\r\nconnection: close\r\n" in client.sent


@pytest.mark.parametrize("status", [204, 304])
def test_bodiless_statuses(status: int) -> None:
    """204 and 304 have neither framing nor body (RFC 9112 section 6.3)."""
    exchange, client = exchange_of(GET)
    exchange.begin(status, b"", None)
    exchange.write(b"evil", last=True)
    head, body = parts(client)
    assert body == b""
    assert b"chunked" not in head
    assert b"content-length" not in head
    assert client.calls == ["ended"]


def test_head_of_an_unknown_length_sends_no_last_chunk() -> None:
    """The answer to HEAD says that GET would be chunked, and sends no chunk."""
    exchange, client = exchange_of(HEAD)
    exchange.begin(200, b"", None)
    exchange.write(b"", last=True)
    head, body = parts(client)
    assert b"transfer-encoding: chunked" in head
    assert (body, client.calls) == (b"", ["ended"])


def test_an_unknown_status_needs_no_phrase() -> None:
    """A status that is not in the registry is sent as a number with an empty phrase."""
    exchange, client = exchange_of(GET)
    exchange.reply(599, b"", b"")
    assert client.sent.startswith(b"HTTP/1.1 599 \r\n")


def test_flush_sends_the_head_once() -> None:
    """The head may go before the body, and goes once."""
    exchange, client = exchange_of(GET)
    exchange.begin(200, b"", None)
    exchange.flush()
    exchange.flush()
    exchange.write(b"a", last=True)
    assert client.sent.count(b"HTTP/1.1") == 1
    assert parts(client)[1] == b"1\r\na\r\n" + LAST_CHUNK


def test_an_unread_body_ends_keep_alive() -> None:
    """An answer before the end of the request closes the connection: the rest can't be told from the next request."""
    exchange, client = exchange_of(b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabc")
    exchange.reply(413, b"", b"")
    assert not exchange.keep_alive
    assert b"connection: close\r\n" in client.sent


@given(st.lists(st.binary(min_size=1, max_size=20), max_size=4), st.binary(max_size=20))
def test_break_off_never_writes_the_last_chunk(pieces: list[bytes], last_words: bytes) -> None:
    """A broken answer is told apart from a whole one: its last words are a chunk, and no last chunk follows."""
    exchange, client = exchange_of(GET)
    exchange.begin(200, b"", None)
    for piece in pieces:
        exchange.write(piece)
    exchange.break_off(last_words)
    exchange.end()
    assert dechunk(parts(client)[1]) == (b"".join(pieces) + last_words, False)
    assert (client.calls, exchange.ended, exchange.keep_alive) == (["broken"], True, False)


def test_break_off_of_a_known_length_adds_nothing() -> None:
    """Last words would fill up the length that was promised, so there are none."""
    exchange, client = exchange_of(GET)
    exchange.begin(200, b"", 100)
    exchange.write(b"ab")
    exchange.break_off(b"x" * 98)
    assert parts(client)[1] == b"ab"
    assert client.calls == ["broken"]


def test_break_off_of_http_1_0_adds_nothing() -> None:
    """Where only the connection ends the body, last words would look like its end."""
    exchange, client = exchange_of(GET_1_0)
    exchange.begin(200, b"", None)
    exchange.write(b"ab")
    exchange.break_off(b"sorry")
    assert parts(client)[1] == b"ab"
    assert client.calls == ["broken"]


def test_an_exchange_ends_once() -> None:
    """After its end nothing can end, break or refuse it again."""
    exchange, client = exchange_of(GET)
    exchange.reply(200, b"", b"a")
    sent = client.sent
    exchange.end()
    exchange.break_off(b"x")
    exchange.refuse(RequestError("internal_error", "x"), b"", b"")
    assert (client.sent, client.calls) == (sent, ["ended"])


def test_refuse_before_during_and_without_client() -> None:
    """An error is an answer before the first byte, a break after it, and nothing when the client is gone."""
    error = RequestError("backend_failed", "x")
    exchange, client = exchange_of(GET)
    exchange.refuse(error, b"", b"no")
    assert client.sent.startswith(b"HTTP/1.1 502 ")
    exchange, client = exchange_of(GET)
    exchange.begin(200, b"", None)
    exchange.write(b"a")
    exchange.refuse(error, b"", b"no")
    assert client.calls == ["broken"]
    assert b"502" not in client.sent
    exchange, client = exchange_of(GET)
    exchange.client_left = True
    exchange.refuse(error, b"", b"no")
    assert (client.sent, client.calls) == (b"", [])


EXPECTING = b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n"


def test_100_continue_is_sent_when_it_is_waited_for() -> None:
    """A client that waits is invited; one that did not ask, or has begun to send, is not (RFC 9110 section 10.1.1)."""
    exchange, client = exchange_of(EXPECTING)
    exchange.invite_body()
    assert client.sent == b"HTTP/1.1 100 Continue\r\n\r\n"
    for raw in (EXPECTING + b"a", EXPECTING + b"ab", EXPECTING.replace(b"Expect", b"X-Expect"), GET):
        exchange, client = exchange_of(raw)
        exchange.invite_body()
        assert client.sent == b""


def test_a_final_answer_without_100_closes() -> None:
    """A refusal from the head alone is the only answer, and the connection closes after it."""
    exchange, client = exchange_of(EXPECTING)
    exchange.reply(401, b"", b"")
    assert client.sent.startswith(b"HTTP/1.1 401 ")
    assert not exchange.keep_alive


def test_hold_pauses_the_client() -> None:
    """A backend that takes no more holds the client back, until it does again."""
    exchange, client = exchange_of(GET)
    exchange.hold(False)
    exchange.hold(True)
    assert client.calls == ["pause", "resume"]


def test_switch_protocols() -> None:
    """101 goes out with the given lines, and the connection is handed over."""
    exchange, client = exchange_of(GET)
    assert exchange.switch_protocols(b"upgrade: websocket\r\n") is client
    assert client.sent == b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\n\r\n"
    assert (exchange.status, exchange.keep_alive) == (101, False)


def test_the_print_tells_the_state() -> None:
    """The repr names request, state and bytes."""
    exchange, _ = exchange_of(GET)
    assert isinstance(exchange, Exchange)
    exchange.reply(200, b"", b"abc")
    assert repr(exchange) == "<Exchange GET /x, ended, 3 bytes sent>"
    assert asyncio.run(exchange.body.read()) == b""
