"""The scraper against real servers, with a clock and a pause of the test's own."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from gpubalancer.board.layout import Loaded
from gpubalancer.sim.calls import Settings
from gpubalancer.sim.hardware import HARDWARE
from gpubalancer.sim.server import running
from gpubalancer.telemetry.dialects import Series
from gpubalancer.telemetry.engines import EngineReading
from gpubalancer.telemetry.probes import Target
from gpubalancer.telemetry.scrape import SILENT_S, Scraper, Source

from .fixtures import engine_page
from .server import Answers, serving

DEADLINE_S = 20.0
VLLM = engine_page("vllm-0.32.0")


@dataclass
class Bench:
    """A scraper whose pauses are counted, and end at once until there were enough of them."""

    rounds: int
    in_flight: int = 0
    readings: list[tuple[str, EngineReading]] = field(default_factory=list)
    pauses_s: list[float] = field(default_factory=list)
    between: Callable[[int], None] = lambda done: None
    now_s: float = 100.0
    over: asyncio.Event = field(default_factory=asyncio.Event)

    def scraper(self, deadline_s: float = DEADLINE_S) -> Scraper:
        """The scraper; jitter is in the middle."""
        return Scraper(
            lambda name, reading: self.readings.append((name, reading)),
            lambda name: self.in_flight,
            lambda: 0.5,
            lambda: self.now_s,
            self._pause,
            deadline_s,
        )

    async def _pause(self, pause_s: float) -> None:
        self.pauses_s.append(pause_s)
        done = len(self.pauses_s) - 1
        self.between(done)
        if done >= self.rounds:
            self.over.set()
            await asyncio.Event().wait()

    async def play(self, *sources: Source, deadline_s: float = DEADLINE_S) -> None:
        """Run until there were `rounds` readings."""
        scraper = self.scraper(deadline_s)
        scraper.replace(sources, 1.0)
        task = asyncio.create_task(scraper.run())
        async with asyncio.timeout(DEADLINE_S):
            await self.over.wait()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def scrape(
    pages: dict[str, tuple[int, Any]], rounds: int = 1, engine: str | None = "vllm", **options: Any
) -> tuple[Bench, Answers]:
    """What a scraper makes of a server that answers these pages."""
    bench = Bench(rounds, **{key: options.pop(key) for key in ("between", "in_flight") if key in options})

    async def main() -> Answers:
        async with serving(pages) as answers:
            await bench.play(Source(Target("b", answers.url, engine, credential="test-key"), **options))
            return answers

    return bench, asyncio.run(main())


def test_a_page_becomes_a_reading() -> None:
    """The engine's page is read, and told with its time under the backend's name."""
    bench, answers = scrape({"/metrics": (200, VLLM)})
    ((name, reading),) = bench.readings
    assert (name, reading.running, reading.waiting, reading.at_s) == ("b", 8.0, 8.0, 100.0)
    assert answers.asked == [("/metrics", "Bearer test-key")]


def test_the_simulated_engine_is_read() -> None:
    """Our own engine's page over real sockets is one of vLLM's."""
    bench = Bench(1)

    async def main() -> None:
        async with running(Settings(("m",), HARDWARE["h100"], kv_blocks=100), "127.0.0.1", 0) as server:
            await bench.play(Source(Target("b", server.url)))

    asyncio.run(main())
    assert bench.readings == [
        ("b", EngineReading(100.0, 0.0, 0.0, 0.0, 1600.0, cached_tokens=0.0, looked_up_tokens=0.0))
    ]


def test_an_unknown_engine_gives_itself_away() -> None:
    """Without an engine the page itself decides whose words it has."""
    bench, _ = scrape({"/metrics": (200, engine_page("llamacpp-b11549"))}, engine=None)
    assert bench.readings[0][1].running == 4.0


@pytest.mark.parametrize(
    ("engine", "metrics", "url"),
    [
        ("vllm", None, "http://h:8000/metrics"),
        ("ollama", None, "http://h:8000/api/ps"),
        ("trtllm", None, "http://h:8000/prometheus/metrics"),
        ("triton", None, "http://h:8002/metrics"),
        ("triton", "/here", "http://h:8000/here"),
        (None, None, "http://h:8000/metrics"),
        ("openai", "http://other:9090/page", "http://other:9090/page"),
    ],
)
def test_each_engine_has_its_page_somewhere(engine: str | None, metrics: str | None, url: str) -> None:
    """The path and port follow the engine, and what the operator gives goes before."""
    assert Source(Target("b", "http://h:8000/v1", engine), metrics).url == url


def test_ipv6_hosts_keep_their_brackets() -> None:
    """Another port on an IPv6 address is still an address."""
    assert Source(Target("b", "http://[::1]:8000", "triton")).url == "http://[::1]:8002/metrics"


def test_a_cloud_is_never_asked() -> None:
    """An engine that is known to have no page costs nothing; a page given by hand is read."""
    assert Source(Target("b", "https://h", "openai")).is_silent
    assert not Source(Target("b", "https://h", "openai"), "/metrics").is_silent
    assert not Source(Target("b", "https://h", None)).is_silent


def test_a_secret_stays_with_its_backend() -> None:
    """A page on another server is read without the backend's credential."""

    async def main() -> tuple[Answers, Answers]:
        async with serving({}) as own, serving({"/metrics": (200, VLLM)}) as other:
            target = Target("b", own.url, "vllm", credential="test-key")
            await Bench(1).play(Source(target, f"{other.url}/metrics"))
            return own, other

    own, other = asyncio.run(main())
    assert own.asked == []
    assert other.asked == [("/metrics", None)]


def test_the_operators_series_are_read() -> None:
    """A page of no known engine is of use where a series is mapped by hand."""
    bench, _ = scrape(
        {"/metrics": (200, b'my_active{pool="a"} 3\n')}, engine="own", metrics="/metrics",
        by_hand=(("running", Series("my_active")),),
    )  # fmt: skip
    assert bench.readings[0][1].running == 3.0


def test_ollama_is_asked_for_its_models() -> None:
    """Its list of models in memory is a reading."""
    bench, _ = scrape({"/api/ps": (200, {"models": [{"name": "phi:3"}]})}, engine="ollama")
    assert bench.readings[0][1].models == ("phi:3",)


def test_a_loading_model_is_a_reading() -> None:
    """A 503 with llama.cpp's words says that the model is being read."""
    bench, _ = scrape({"/metrics": (503, {"error": {"message": "Loading model"}})}, engine="llamacpp")
    assert bench.readings == [("b", EngineReading(100.0, loaded=Loaded.LOADING))]


@pytest.mark.parametrize(
    "answer", [(404, None), (501, {"error": {"message": "not supported"}}), (200, b"python_info 1\n"), (200, b"")]
)
def test_a_silent_backend_is_asked_again_each_minute(answer: tuple[int, Any], caplog: pytest.LogCaptureFixture) -> None:
    """No page, or one without a known name, is no fault: told once, and asked for seldom."""
    caplog.set_level(logging.INFO)
    bench, _ = scrape({"/metrics": answer}, rounds=3, engine=None)
    assert bench.readings == []
    assert bench.pauses_s[1:] == [SILENT_S] * 3
    assert [record.levelname for record in caplog.records] == ["INFO"]
    assert "measured from outside" in caplog.text


def test_failures_are_tried_ever_more_seldom_and_told_once(caplog: pytest.LogCaptureFixture) -> None:
    """Each failure doubles the wait; the log hears of the third, and of the recovery."""
    caplog.set_level(logging.INFO)
    pages: dict[str, tuple[int, Any]] = {"/metrics": (500, None)}

    def between(done: int) -> None:
        if done == 5:
            pages["/metrics"] = (200, VLLM)

    bench, _ = scrape(pages, rounds=6, between=between)
    assert bench.pauses_s == [0.5, 2.0, 4.0, 8.0, 16.0, 30.0, 1.0]
    assert len(bench.readings) == 1
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
    assert "answered 500" in caplog.text


@pytest.mark.parametrize("page", [b"{", b'{"models": 5}'])
def test_a_broken_page_is_a_failure(page: bytes) -> None:
    """What is no answer of Ollama's is tried again later, and records nothing."""
    bench, _ = scrape({"/api/ps": (200, page)}, engine="ollama", rounds=2)
    assert bench.readings == []
    assert bench.pauses_s[1:] == [2.0, 4.0]


def test_an_engine_that_hangs_costs_the_deadline() -> None:
    """A server that accepts and says nothing is a failure, and no second reading is begun beside it."""
    bench = Bench(2)
    connected = 0

    async def main() -> None:
        async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal connected
            connected += 1
            await reader.read()
            writer.close()

        async with await asyncio.start_server(hang, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            await bench.play(Source(Target("b", f"http://127.0.0.1:{port}", "vllm")), deadline_s=0.05)

    asyncio.run(main())
    assert bench.pauses_s == [0.5, 2.0, 4.0]
    assert connected == 2


def test_a_name_that_disappears_warns_once(caplog: pytest.LogCaptureFixture) -> None:
    """An update that renames metrics is told with the backend's name, and the numbers become unknown."""
    pages: dict[str, tuple[int, Any]] = {"/metrics": (200, VLLM)}

    def between(done: int) -> None:
        if done == 1:
            pages["/metrics"] = (200, b"vllm:kv_cache_usage_perc 0.5\n")
        if done == 3:
            pages["/metrics"] = (200, b"vllm:all_is_new 1\n")

    bench, _ = scrape(pages, rounds=4, between=between)
    assert [reading.running for _, reading in bench.readings] == [8.0, None, None, None]
    told = [record.message for record in caplog.records if "running" in record.message]
    assert told == ["backend b tells no usable running any more"]
    assert "kv_used_fraction any more" in caplog.text


def test_a_frozen_gauge_is_not_believed(caplog: pytest.LogCaptureFixture) -> None:
    """A page that never changes under our moving load ends up unknown."""
    bench, _ = scrape({"/metrics": (200, VLLM)}, rounds=6, in_flight=40)
    assert [reading.running for _, reading in bench.readings] == [8.0] * 4 + [None] * 2
    assert "stand still" in caplog.text


def test_a_reload_keeps_who_stays() -> None:
    """Who is left out is read no more; who stays is not read twice as often."""

    async def main() -> None:
        pages: dict[str, tuple[int, Any]] = {"/metrics": (200, VLLM)}
        async with serving(pages) as one, serving(pages) as two:
            first, second = Source(Target("1", one.url, "vllm")), Source(Target("2", two.url, "vllm"))
            scraper = Bench(rounds=10**9).scraper()
            scraper.replace([first, second], 1.0)
            task = asyncio.create_task(scraper.run())
            async with asyncio.timeout(DEADLINE_S):
                await asyncio.gather(one.asked_again(), two.asked_again())
                scraper.replace([second], 1.0)
                await two.asked_again(3)
                left = len(one.asked)
                await two.asked_again(5)
            assert len(one.asked) == left
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    asyncio.run(main())
