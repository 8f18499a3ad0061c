"""One keep-alive connection of the load generator, and what it holds an answer against.

A connection carries one exchange at a time. When the answer is whole, or the connection is gone, it calls back with
the connection itself and a reason: an empty string for an answer that was complete and right. "Right" is judged by
what the stub server said, not by bytes, because some contestants parse an answer and write it again in their own
order.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, cast

import httptools
import orjson

from bench.prompts import ANSWER_TEXT, MARKER

MARKER_BYTES = MARKER.encode()
LAST_EVENT = b"data: [DONE]"


class Answer(Protocol):
    """What takes the body's bytes as they come and says at the end what was wrong with them, if anything."""

    def feed(self, data: bytes) -> None: ...

    def fault(self) -> str: ...


class UnaryAnswer:
    """A whole JSON answer, right if its text is the stub server's."""

    def __init__(self) -> None:
        self._body = b""

    def feed(self, data: bytes) -> None:
        self._body += data

    def fault(self) -> str:
        """An empty string, or what is wrong."""
        try:
            text = orjson.loads(self._body)["choices"][0]["message"]["content"]
        except (ValueError, LookupError, TypeError):
            return "wrong body"
        return "" if text == ANSWER_TEXT else "wrong body"


@dataclass
class StreamTally:
    """What all streams together have had so far; `on_open` is told of each first event."""

    on_open: Callable[[], None]
    opened: int = 0  # streams with at least one event
    events: int = 0


class StreamAnswer:
    """A stream of events, right if all of them came and `[DONE]` after them; it also counts into a common tally."""

    def __init__(self, expected_events: int, tally: StreamTally) -> None:
        self._expected = expected_events
        self._tally = tally
        self._tail = b""
        self._ended = False
        self.events = 0
        self.first_s: float | None = None  # when the first event came, of `time.perf_counter`

    def feed(self, data: bytes) -> None:
        """Count the markers, also those that are cut in two by the network."""
        text = self._tail + data
        found = text.count(MARKER_BYTES)
        if found:
            if self.first_s is None:
                self.first_s = time.perf_counter()
                self._tally.opened += 1
                self._tally.on_open()
            self.events += found
            self._tally.events += found
            text = text[text.rfind(MARKER_BYTES) + len(MARKER_BYTES) :]
        if LAST_EVENT in text:
            self._ended = True
        self._tail = text[-len(LAST_EVENT) :]

    def fault(self) -> str:
        """An empty string, or what is wrong."""
        if not self._ended:
            return "stream without its end"
        return "" if self.events == self._expected else "stream with lost events"


class Connection(asyncio.Protocol):
    """A client connection; `send` starts an exchange, `on_done(connection, fault)` ends it.

    `sent_s` and `done_s` are of `time.perf_counter`. A connection that closes between two exchanges reports nothing;
    `open` says whether it may be used again.
    """

    def __init__(self, on_done: Callable[["Connection", str], None]) -> None:
        self._on_done = on_done
        self._answer: Answer | None = None
        self.open = False
        self.sent_s = 0.0
        self.done_s = 0.0

    @property
    def busy(self) -> bool:
        """True between a request and the end of its answer."""
        return self._answer is not None

    def send(self, request: bytes, answer: Answer) -> None:
        """Send one request; its answer's body goes to `answer`."""
        self._answer = answer
        self._parser = httptools.HttpResponseParser(self)
        self.sent_s = time.perf_counter()
        self._transport.write(request)

    def close(self) -> None:
        """Close without a report, whatever is under way."""
        self._answer = None
        if self.open:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's own class, not a subclass
        self.open = True

    def data_received(self, data: bytes) -> None:
        if self._answer is None:
            self._transport.close()
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._finish("not HTTP")
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self.open = False
        self._finish("connection lost")

    # httptools' callbacks

    def on_body(self, body: bytes) -> None:
        if self._answer is not None:
            self._answer.feed(body)

    def on_message_complete(self) -> None:
        if self._answer is None:
            return
        status = self._parser.get_status_code()
        if not self._parser.should_keep_alive():
            self.open = False
            self._transport.close()
        self._finish(self._answer.fault() if status == 200 else f"status {status}")

    def _finish(self, fault: str) -> None:
        if self._answer is not None:
            self._answer = None
            self.done_s = time.perf_counter()
            self._on_done(self, fault)
