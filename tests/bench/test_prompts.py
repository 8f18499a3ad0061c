"""The requests that everybody carries."""

import orjson
import pytest

from bench.prompts import BODIES, MODEL, chat_bodies, http_request


@pytest.mark.parametrize("size", [64, 1024, 16 * 1024])
def test_bodies_are_chats_of_the_asked_size(size: int) -> None:
    """Each body is a valid chat with a prompt of exactly that many bytes, and no two are equal."""
    bodies = chat_bodies(size)
    assert len(set(bodies)) == BODIES
    for body in bodies:
        chat = orjson.loads(body)
        assert chat["model"] == MODEL
        assert len(chat["messages"][-1]["content"].encode()) == size
        assert "stream" not in chat


def test_everybody_gets_the_same_bytes() -> None:
    """The words come from a fixed seed."""
    assert chat_bodies(1024) == chat_bodies(1024)


def test_stream_body_says_how_many_events() -> None:
    """The stub server reads the number of events from `max_tokens`."""
    chat = orjson.loads(chat_bodies(64, stream_events=7)[0])
    assert (chat["stream"], chat["max_tokens"]) == (True, 7)


def test_request_is_framed_by_its_length() -> None:
    """The head names the body's length and carries the key."""
    head, _, body = http_request(80, "k", b"12345").partition(b"\r\n\r\n")
    assert body == b"12345"
    assert b"\r\nContent-Length: 5" in head
    assert b"\r\nAuthorization: Bearer k\r\n" in head
