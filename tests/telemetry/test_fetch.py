"""One GET over real sockets."""

import asyncio
import gzip
import socket

import pytest

from gpubalancer.telemetry.fetch import Answer, FetchError, fetch, open_session

from .server import Answers, serving


def get(
    pages: dict[str, tuple[int, object]], headers: dict[str, str] | None = None, **options: object
) -> tuple[Answer, Answers]:
    """Fetch `/page` of a server."""

    async def main() -> tuple[Answer, Answers]:
        async with serving(dict(pages), headers) as answers, open_session() as session:
            answer = await fetch(session, f"{answers.url}/page", 20.0, **options)  # type: ignore[arg-type] # a test's words
            return answer, answers

    return asyncio.run(main())


def test_an_answer_is_read_whole() -> None:
    """Status, body and headers; no credential is sent that was not given."""
    answer, answers = get({"/page": (200, b"a 1\n")}, {"Server": "x"})
    assert (answer.status, answer.body, answer.headers["Server"]) == (200, b"a 1\n", "x")
    assert answers.asked == [("/page", None)]
    assert get({})[0].status == 404


def test_a_credential_is_sent_as_bearer() -> None:
    """The secret goes where it was given for."""
    assert get({"/page": (200, b"")}, credential="test-key")[1].asked == [("/page", "Bearer test-key")]


def test_compressed_answers_are_read() -> None:
    """What comes in gzip is what was compressed."""
    body = b"vllm:num_requests_running 3\n" * 100
    assert get({"/page": (200, gzip.compress(body))}, {"Content-Encoding": "gzip"})[0].body == body


def test_redirects_are_not_followed() -> None:
    """A backend does not choose what is read: its redirect is an answer like any."""
    answer, answers = get({"/page": (302, b""), "/other": (200, b"x")}, {"Location": "/other"})
    assert answer.status == 302
    assert [path for path, _ in answers.asked] == ["/page"]


@pytest.mark.parametrize("compressed", [False, True])
def test_a_long_answer_is_left(compressed: bool) -> None:
    """The limit is on what comes out, so a small bomb does not pass it."""
    body = b"x" * 200_000
    headers = {"Content-Encoding": "gzip"} if compressed else {}
    with pytest.raises(FetchError, match="more than 100000 bytes"):
        get({"/page": (200, gzip.compress(body) if compressed else body)}, headers, limit_bytes=100_000)


def test_broken_compression_is_no_answer() -> None:
    """A body that is not what its header says is an error with the address."""
    with pytest.raises(FetchError, match=r"no answer from http://127\.0\.0\.1"):
        get({"/page": (200, b"not gzip at all")}, {"Content-Encoding": "gzip"})


def test_a_closed_port_is_no_answer() -> None:
    """Nobody there is one sentence."""

    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
        async with open_session() as session:
            await fetch(session, f"http://127.0.0.1:{port}/", 20.0)

    with pytest.raises(FetchError, match="no answer from"):
        asyncio.run(main())


def test_silence_ends_at_the_deadline() -> None:
    """A server that accepts and never answers costs the deadline."""

    async def main(url: str) -> None:
        async with open_session() as session:
            await fetch(session, url, 0.05)

    with socket.create_server(("127.0.0.1", 0)) as server, pytest.raises(FetchError, match=r"within 0\.05 s"):
        asyncio.run(main(f"http://127.0.0.1:{server.getsockname()[1]}/"))


def test_what_is_no_url_is_no_answer() -> None:
    """A broken address is an error of the same kind."""

    async def main() -> None:
        async with open_session() as session:
            await fetch(session, "http://[", 1.0)

    with pytest.raises(FetchError):
        asyncio.run(main())
