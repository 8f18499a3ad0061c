"""What is said on standard output: one JSON object a line, for the access log and for events.

The access log is gathered and written by a thread a few times a second, so that a slow reader of our output never holds
up a request. If it is slower than we are for long, lines are dropped and counted; memory does not grow.
"""

import asyncio
import logging
import os
import sys
import time
from concurrent.futures import Future, ThreadPoolExecutor

import orjson

from gpubalancer.domain.outcome import Outcome
from gpubalancer.domain.record import record_of

FLUSH_S = 0.2
MOST_BUFFERED_LINES = 20_000


def say(event: str, /, **details: object) -> None:
    """Write one event now."""
    line = orjson.dumps({"time": round(time.time(), 3), "event": event, **details}, default=str)
    sys.stdout.buffer.write(line + b"\n")
    sys.stdout.buffer.flush()


def say_ended(outcome: Outcome) -> None:
    """Write the access log's line of a request that has just ended, now."""
    sys.stdout.buffer.write(render(outcome, time.time()))
    sys.stdout.buffer.flush()


class JsonLines(logging.Handler):
    """Python's own logging, as events on standard output."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record."""
        details: dict[str, object] = {"level": record.levelname.lower(), "message": record.getMessage()}
        if record.exc_info:
            details["exception"] = self.format(record)
        say("log", **details)


def configure(level: int = logging.INFO) -> None:
    """Send all logging of this process to standard output, as JSON lines."""
    logging.basicConfig(level=level, handlers=[JsonLines()], force=True)


def render(outcome: Outcome, time_s: float) -> bytes:
    """An outcome's line."""
    return orjson.dumps(record_of(outcome, time_s), option=orjson.OPT_APPEND_NEWLINE)


class AccessLog:
    """The access log of one worker."""

    def __init__(self, fd: int) -> None:
        self.dropped = 0
        self._fd = fd
        self._lines: list[bytes] = []
        self._writing: Future[None] | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="access-log")

    def add(self, outcome: Outcome) -> None:
        """Log one request."""
        if len(self._lines) >= MOST_BUFFERED_LINES:
            self.dropped += 1
        else:
            self._lines.append(render(outcome, time.time() - (time.monotonic() - outcome.ended_s)))

    async def run(self) -> None:
        """Write what was gathered, until cancelled."""
        while True:
            await asyncio.sleep(FLUSH_S)
            self.flush()

    def flush(self) -> None:
        """Have the thread write what was gathered, unless it is still writing."""
        if self._lines and (self._writing is None or self._writing.done()):
            lines, self._lines = self._lines, []
            self._writing = self._thread.submit(_write_all, self._fd, b"".join(lines))

    def close(self) -> None:
        """Write the rest."""
        self.flush()
        self._thread.shutdown()
        if self._lines:
            _write_all(self._fd, b"".join(self._lines))


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(fd, view) :]
        except BrokenPipeError:
            return
