"""The relay of a stream that may have to end before its backend ends it, because nobody pays for more.

Up to `Meter.paid` tokens a piece goes on as in any watched stream. One that would go beyond is cut into its events, and
the meter is asked before each. It says yes and has been paid for more, or no: then nothing of that event goes on, the
last words of the API and the end of the framing do, and the backend is cancelled. Or it does not know yet: then the
backend is held back, and what has come waits here until `go_on`.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Protocol

from gpubalancer.wire.exchange import Exchange, Source
from gpubalancer.wire.relay import Watch, WatchedRelay


class Meter(Protocol):
    """Says how far a stream is paid for."""

    paid: int
    """How many events with a mark may pass."""

    def ask(self, event: bytes) -> bool | None:
        """True if an event may pass that goes beyond `paid`, which has been raised to hold it.

        False if there is no more to spend; None if that is not known yet: then the relay's `go_on` is called when it
        is.
        """

    def last_words(self) -> bytes:
        """The events that end the stream here as its API ends one."""


class MeteredRelay(WatchedRelay):
    """A watched relay with a meter.

    Attributes:
        stopped: the stream was ended here.
        waiting: what has come waits for the meter; done when the meter knows more, after which more may wait, for
            another. None if nothing waits.
        passed: all events that went on, where somebody wants them for the last words.
    """

    __slots__ = ("_done", "_events", "_last", "_meter", "_on_stop", "_source", "passed", "stopped", "waiting")

    def __init__(
        self,
        exchange: Exchange,
        watch: Watch,
        meter: Meter,
        source: Source,
        on_stop: Callable[[], None],
        on_first: Callable[[], None] | None = None,
    ) -> None:
        """`source` is the backend's connection; `on_stop` is called when the stream was ended here."""
        super().__init__(exchange, watch, on_first)
        self.stopped = False
        self.waiting: asyncio.Future[None] | None = None
        self.passed: list[bytes] | None = None
        self._meter = meter
        self._source = source
        self._on_stop = on_stop
        self._done: asyncio.Future[None] | None = None
        self._events: deque[bytes] = deque()
        self._last = False

    def write(self, piece: bytes, now_s: float, *, last: bool) -> None:
        """Pass on what of a piece is paid for."""
        if self.stopped:
            return
        if self._is_paid(piece):
            self._note(piece)
            super().write(piece, now_s, last=last)
            return
        self._events.extend(_events_of(piece, self._watch.boundary))
        self._last = last
        if self.waiting is None:
            self._pass(now_s)

    def write_chunk(self, chunk: bytes, piece: bytes, now_s: float) -> None:
        """Pass a chunk on as it came, if all of it is paid for."""
        if self._is_paid(piece) and not self.stopped:
            self._note(piece)
            super().write_chunk(chunk, piece, now_s)
        else:
            self.write(piece, now_s, last=False)

    async def finished(self, done: asyncio.Future[None] | None) -> None:
        """Wait until the answer has passed, or was ended here.

        Arguments:
            done: what tells that the backend has ended it; None if it has.

        Raises:
            UpstreamError: it broke off.
        """
        if done is not None and not self.stopped:
            self._done = done
            await done
        while self.waiting is not None:
            await self.waiting

    def go_on(self) -> None:
        """The meter knows more."""
        waiting, self.waiting = self.waiting, None
        if waiting is None:
            return
        if not self._exchange.ended:
            self._source.resume_reading()
            self._pass(self.last_s)
        if not waiting.done():
            waiting.set_result(None)

    def _is_paid(self, piece: bytes) -> bool:
        watch = self._watch
        return self.waiting is None and watch.marked + piece.count(watch.mark) <= self._meter.paid

    def _note(self, event: bytes) -> None:
        if self.passed is not None:
            self.passed.append(event)

    def _pass(self, now_s: float) -> None:
        events, watch, meter = self._events, self._watch, self._meter
        while events:
            if watch.marked + events[0].count(watch.mark) > meter.paid:
                may_pass = meter.ask(events[0])
                if may_pass is None:
                    self.waiting = asyncio.get_running_loop().create_future()
                    self._source.pause_reading()
                    return
                if not may_pass:
                    self._stop()
                    return
            event = events.popleft()
            self._note(event)
            super().write(event, now_s, last=self._last and not events)

    def _stop(self) -> None:
        self.stopped = True
        self._events.clear()
        self._exchange.write(self._meter.last_words(), last=True)
        self._on_stop()
        if self._done is not None and not self._done.done():
            self._done.set_result(None)


def _events_of(piece: bytes, boundary: bytes) -> list[bytes]:
    """A piece cut behind each event; the last part may be one without its end."""
    parts = piece.split(boundary)
    events = [part + boundary for part in parts[:-1]]
    return [*events, parts[-1]] if parts[-1] else events
