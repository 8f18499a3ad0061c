"""Probes over real sockets."""

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

import pytest

from gpubalancer.telemetry.hysteresis import Health
from gpubalancer.telemetry.probes import Prober, Target, Unwell, open_session, probe

from .server import Answers, serving

DEADLINE_S = 20.0


@pytest.mark.parametrize(
    ("url", "path", "whole"),
    [
        ("http://h:8000", "/health", "http://h:8000/health"),
        ("http://h:8000/", "/v1/models", "http://h:8000/v1/models"),
        ("http://h:8000/v1", "/v1/models", "http://h:8000/v1/models"),
        ("http://h:8000/v1/", "/health", "http://h:8000/health"),
        ("https://h/api/v1", "/v1/models", "https://h/api/v1/models"),
        ("https://h/pool", "/v1/models", "https://h/pool/v1/models"),
        ("http://[::1]:8000/v1", "/health", "http://[::1]:8000/health"),
    ],
)
def test_paths_stand_under_the_root(url: str, path: str, whole: str) -> None:
    """A prefix is kept, a `/v1` at the root's end is neither doubled nor put before other paths."""
    assert Target("b", url).at(path) == whole


@pytest.mark.parametrize(
    ("engine", "path"),
    [
        ("vllm", "/health"),
        ("sglang", "/health"),
        ("llamacpp", "/health"),
        ("tgi", "/health"),
        ("ollama", "/api/version"),
        ("triton", "/v2/health/ready"),
        ("openai", "/v1/models"),
        ("something-new", "/v1/models"),
        (None, "/v1/models"),
    ],
)
def test_each_engine_is_asked_where_it_answers(engine: str | None, path: str) -> None:
    """The path follows the engine, and no credential is sent."""

    async def ask() -> tuple[Unwell | None, Answers]:
        async with serving({path: (200, {})}) as answers, open_session() as session:
            return await probe(session, Target("b", answers.url, engine, credential="secret")), answers

    why_not, answers = asyncio.run(ask())
    assert why_not is None
    assert answers.asked == [(path, None)]


@pytest.mark.parametrize(
    ("engine", "status", "alive"),
    [
        ("vllm", 200, True),
        (None, 301, True),
        (None, 401, True),
        (None, 403, True),
        (None, 404, True),
        (None, 405, True),
        (None, 429, True),
        ("vllm", 500, False),
        ("vllm", 503, False),
        ("triton", 400, False),
        ("vllm", 400, True),
    ],
)
def test_an_answer_below_500_is_life(engine: str | None, status: int, alive: bool) -> None:
    """A refusal or a redirect is an answer; a server error, or Triton's own word for not ready, is none."""

    async def ask() -> Unwell | None:
        pages = dict.fromkeys(("/health", "/v1/models", "/v2/health/ready"), (status, None))
        async with serving(pages, {"Location": "/elsewhere"}) as answers, open_session() as session:
            return await probe(session, Target("b", answers.url, engine))

    why_not = asyncio.run(ask())
    assert (why_not is None) == alive
    if why_not:
        assert f"answered {status}" in why_not.why
        assert why_not.reachable


@contextmanager
def listening() -> Iterator[str]:
    """A socket that accepts and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def ask_raw(answer: bytes) -> Unwell | None:
    """The result of a probe of a server that sends these bytes and closes."""

    async def ask() -> Unwell | None:
        async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(answer)
            writer.close()
            await writer.wait_closed()

        async with await asyncio.start_server(talk, "127.0.0.1", 0) as server, open_session() as session:
            port = server.sockets[0].getsockname()[1]
            return await probe(session, Target("b", f"http://127.0.0.1:{port}"))

    return asyncio.run(ask())


def test_a_silent_server_is_dead_after_the_deadline() -> None:
    """A server that accepts and never answers costs the probe's deadline and no more."""

    async def ask(url: str) -> Unwell | None:
        async with open_session() as session:
            return await probe(session, Target("b", url), deadline_s=0.05)

    with listening() as url:
        why_not = asyncio.run(ask(url))
    assert why_not is not None
    assert "within 0.05 s" in why_not.why
    assert why_not.reachable


def test_a_closed_port_is_dead() -> None:
    """A refused connection is told with the address."""
    with listening() as url:
        pass

    async def ask() -> Unwell | None:
        async with open_session() as session:
            return await probe(session, Target("b", url))

    why_not = asyncio.run(ask())
    assert why_not is not None
    assert url in why_not.why
    assert not why_not.reachable


@pytest.mark.parametrize("answer", [b"", b"\x00\x01\x02", b"HTTP/1.1 999999 what\r\n\r\n", b"SSH-2.0-OpenSSH\r\n"])
def test_a_server_that_speaks_no_http_is_dead(answer: bytes) -> None:
    """Bytes that are no HTTP answer are a failure, not a crash."""
    why_not = ask_raw(answer)
    assert why_not is not None
    assert "no answer" in why_not.why
    assert why_not.reachable


def test_an_answer_without_its_body_is_life() -> None:
    """The status decides; the body is not waited for."""
    assert ask_raw(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n") is None


def run_prober(act: Callable[[Prober, "asyncio.Queue[tuple[str, Health]]"], Awaitable[None]]) -> None:
    """Run a prober beside a test's coroutine, which sees every recorded observation."""

    async def main() -> None:
        seen: asyncio.Queue[tuple[str, Health]] = asyncio.Queue()
        prober = Prober(lambda name, health: seen.put_nowait((name, health)), random=lambda: 0.5, deadline_s=2.0)
        running = asyncio.create_task(prober.run())
        async with asyncio.timeout(DEADLINE_S):
            await act(prober, seen)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    asyncio.run(main())


async def until(seen: "asyncio.Queue[tuple[str, Health]]", name: str, up: bool) -> Health:
    """Wait for a verdict on a backend."""
    while True:
        told, health = await seen.get()
        if told == name and health.up == up:
            return health


def test_the_prober_follows_a_backend_down_and_up(caplog: pytest.LogCaptureFixture) -> None:
    """A backend that fails goes down, one that answers again comes up, and both are said in the log once."""
    caplog.set_level(logging.INFO)

    async def act(prober: Prober, seen: "asyncio.Queue[tuple[str, Health]]") -> None:
        async with serving({"/health": (200, None)}) as answers:
            prober.replace([Target("b", answers.url, "vllm")], interval_s=0.02)
            await until(seen, "b", up=True)
            answers.pages["/health"] = (503, None)
            down = await until(seen, "b", up=False)
            assert down.failures == 2
            answers.pages["/health"] = (200, None)
            await until(seen, "b", up=True)
            assert prober.health("b").up

    run_prober(act)
    told = [record.getMessage() for record in caplog.records]
    assert [line.split(":")[0].strip() for line in told] == ["backend b is up", "backend b is down", "backend b is up"]
    assert "answered 503" in told[1]


def test_a_workers_report_brings_the_next_probe_forward() -> None:
    """With an hour between probes, a report makes one at once, and with it a dead backend is down."""

    async def act(prober: Prober, seen: "asyncio.Queue[tuple[str, Health]]") -> None:
        async with serving({"/health": (200, None)}) as answers:
            prober.replace([Target("b", answers.url, "vllm")], interval_s=3600.0)
            await until(seen, "b", up=True)
            answers.pages["/health"] = (500, None)
            prober.connect_failed("b")
            prober.connect_failed("b")
            prober.connect_failed("unknown")
            assert (await seen.get())[1].reported
            await until(seen, "b", up=False)

    run_prober(act)


def test_a_reload_keeps_health_and_stops_what_is_gone() -> None:
    """A backend whose URL stays keeps its health; a removed one is asked no more and its name is unknown."""

    async def act(prober: Prober, seen: "asyncio.Queue[tuple[str, Health]]") -> None:
        async with serving({"/health": (200, None)}) as first, serving({"/v1/models": (500, None)}) as second:
            stays = Target("stays", first.url, "vllm")
            prober.replace([stays, Target("goes", first.url, "vllm")], interval_s=0.02)
            await until(seen, "stays", up=True)
            before = prober.health("stays")
            prober.replace([Target("stays", first.url, "vllm", credential="new"), Target("new", second.url)], 0.02)
            assert prober.health("stays") == before
            with pytest.raises(KeyError):
                prober.health("goes")
            while (await seen.get())[0] != "new":
                pass
            assert not prober.health("new").up
            prober.replace([Target("stays", second.url)], interval_s=0.02)
            assert not prober.health("stays").proven

    run_prober(act)


def test_a_backend_that_vanishes_while_it_is_asked_is_no_error() -> None:
    """An answer that comes after a reload removed the backend is dropped, and the others go on."""

    async def act(prober: Prober, seen: "asyncio.Queue[tuple[str, Health]]") -> None:
        asked, answer = asyncio.Event(), asyncio.Event()

        async def talk(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            asked.set()
            await answer.wait()
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            writer.close()

        async with await asyncio.start_server(talk, "127.0.0.1", 0) as server, serving({}) as other:
            port = server.sockets[0].getsockname()[1]
            prober.replace([Target("slow", f"http://127.0.0.1:{port}")], interval_s=0.02)
            await asked.wait()
            answer.set()
            prober.replace([Target("other", other.url)], interval_s=0.02)
            name, health = await seen.get()
            assert (name, health.up) == ("other", True)

    run_prober(act)
