"""Streamed load against a stub server: events inside the window, and streams that break."""

import asyncio
import os
from collections.abc import Callable

import uvloop

from bench.backends import NEXT_EVENT, STREAM_END, STREAM_HEAD, StubConnection, Ticker, serve
from bench.plan import Plan, Result
from bench.streams import StreamRun, ramp_s

STREAMS = 6


def play(server: Callable[[], asyncio.Protocol] | None, *, watch_pid: int = 0) -> Result:
    """A few streams for a short window; no server of one's own is the stub server."""

    async def run() -> Result:
        loop = asyncio.get_running_loop()
        listening = await (loop.create_server(server, "127.0.0.1", 0) if server else serve(0, 0.05))
        async with listening:
            ports = (listening.sockets[0].getsockname()[1],)
            return await StreamRun(Plan("stream", ports, "k", 64, 0.4, STREAMS, 0, 0.05, 0, watch_pid)).play()

    return uvloop.run(run())


class Broken(StubConnection):
    """Answers a stream request with these bytes, then hangs up."""

    def __init__(self, answer: bytes) -> None:
        super().__init__(Ticker(1.0))
        self._bytes = answer

    def on_message_complete(self) -> None:
        """Send and close."""
        self._transport.write(self._bytes)
        self._transport.close()


def test_ramp_is_longer_for_more_streams() -> None:
    """A thousand streams open over two seconds, few over half a second."""
    assert (ramp_s(1000), ramp_s(10)) == (2.0, 0.5)


def test_whole_streams_are_done_and_the_window_counts_its_events() -> None:
    """All streams end rightly; the window has some of their events; memory was read with all of them open."""
    result = play(None, watch_pid=os.getpid())
    assert (result.done, result.errors) == (STREAMS, {})
    assert result.open_streams == STREAMS
    assert result.units > 0
    assert result.memory_bytes > 0
    assert result.p50_ms is not None


def test_streams_that_break_are_counted() -> None:
    """A stream that is cut after its first event is lost, and no stream is open at the window's end."""
    result = play(lambda: Broken(STREAM_HEAD + NEXT_EVENT))
    assert result.errors == {"connection lost": STREAMS}
    assert (result.done, result.open_streams) == (0, 0)


def test_streams_that_end_early_are_counted() -> None:
    """A clean end with events missing is no success."""
    result = play(lambda: Broken(STREAM_HEAD + NEXT_EVENT + STREAM_END))
    assert result.errors == {"stream with lost events": STREAMS}


def test_refused_streams_are_counted() -> None:
    """A status is an error under its own name."""
    result = play(lambda: Broken(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n"))
    assert result.errors == {"status 503": STREAMS}
    assert result.p50_ms is None
