"""The load of bench/placement.py: a window of a trace, sent by its times whatever comes back.

Every request is a streamed chat. What its prompt says is drawn from the run's salt, so that no cache knows it from an
earlier run; parts that the trace names as shared are the same words every time. How long the answer gets, the engine is
told in a field of vLLM's own (`min_tokens`, its answers being otherwise of one token); `max_tokens` is the same for
all, so that no balancer can read the length out of the request.

An answer is judged by what its client sees: the time from when it was due to the first text, and the time from there
to the last, for each further token. When everything has been sent, what is still out is given `PATIENCE_S`; then it is
judged by the tokens that have come. A request whose first text is late cannot be good any more and is not waited for.

    python -m bench.openloop '{"trace": "azure2023_conv.csv", "rate_per_s": 40, "seconds": 30, ...}'
"""

import asyncio
import re
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from random import Random

import orjson
import uvloop

from bench.client import Connection
from bench.figures import percentile
from bench.prompts import MODEL, WORDS, http_request
from bench.traces import BLOCK_TOKENS, Arrival, read_trace, window

TEMPLATE_TOKENS = 8
"""What the simulated engine's template writes around one message."""
MOST_OUTPUT_TOKENS = 4096
PATIENCE_S = 12.0
POLL_S = 0.1
_TEXT = re.compile(rb'"content": ?"[^"]')
_COMPLETION = re.compile(rb'"completion_tokens": ?(\d+)')
_KEPT_BYTES = 2048
"""Of a stream's end; usage stands there."""


@dataclass(frozen=True)
class Replay:
    """One run.

    Attributes:
        trace: path of the trace's file.
        rate_per_s, seconds, seed: of the window.
        warm_s: requests of so many first seconds are sent and not judged.
        port, key: whom to ask.
        salt: makes this run's text its own.
        ttft_s, tpot_s: the SLO.
        interval_tokens: tokens in one event of the engines' streams.
    """

    trace: str
    rate_per_s: float
    seconds: float
    seed: int
    port: int
    warm_s: float = 0.0
    key: str = "none"
    salt: str = ""
    ttft_s: float = 2.0
    tpot_s: float = 0.1
    interval_tokens: int = 1


@dataclass
class Seen:
    """What a client saw of one request; times of `time.perf_counter`, 0 for never.

    Attributes:
        arrival: what was asked.
        due_s: when it was to be sent.
        fault: empty for an answer that was whole.
    """

    arrival: Arrival
    due_s: float
    first_s: float = 0.0
    last_s: float = 0.0
    events: int = 0
    ended: bool = False
    fault: str = ""
    tail: bytes = b""

    def feed(self, data: bytes) -> None:
        """Take in a piece of the body."""
        self.last_s = time.perf_counter()
        text = self.tail + data
        if not self.first_s and _TEXT.search(text):
            self.first_s = self.last_s
        self.events += data.count(b"data: {")
        self.tail = text[-_KEPT_BYTES:]

    def fault_of_body(self) -> str:
        """An empty string, or what is wrong with the whole body."""
        found = _COMPLETION.search(self.tail)
        if found is None:
            return "no usage"
        return "" if int(found[1]) == self.arrival.output_tokens else "wrong length"

    def ttft_s(self) -> float:
        """From when it was due; infinity if nothing came."""
        return self.first_s - self.due_s if self.first_s else float("inf")

    def tpot_s(self, interval_tokens: int) -> float:
        """For each token after the first; of a stream that was left, from what had come of it."""
        further = self.arrival.output_tokens - 1 if self.ended else (self.events - 1) * interval_tokens
        return (self.last_s - self.first_s) / further if further > 0 else 0.0


class _Body:
    """What a connection feeds, on behalf of one request."""

    def __init__(self, seen: Seen) -> None:
        self.feed = seen.feed
        self.fault = seen.fault_of_body


@dataclass
class Told:
    """The run's result.

    Attributes:
        judged, good: requests after warming up, and how many kept the SLO.
        faults: what ended the others, by name; `late first token` and `slow tokens` among them.
        ttft_s, tpot_s: median, 95th and 99th percentile of those that began.
        late_p99_s: how far the generator was behind its own plan.
        busy_fraction: its CPU.
    """

    judged: int = 0
    good: int = 0
    faults: dict[str, int] = field(default_factory=dict)
    ttft_s: list[float] = field(default_factory=list)
    tpot_s: list[float] = field(default_factory=list)
    late_p99_s: float = 0.0
    busy_fraction: float = 0.0

    @property
    def goodput(self) -> float:
        """Share of all judged requests that kept the SLO."""
        return self.good / self.judged if self.judged else 0.0


class OpenLoop:
    """One run under way."""

    def __init__(self, replay: Replay) -> None:
        self._replay = replay
        trace = read_trace(Path(replay.trace))
        self._arrivals = window(trace, replay.rate_per_s, replay.seconds, replay.seed)
        self._requests = [
            http_request(replay.port, replay.key, body_of(arrival, f"{replay.salt} {index}", replay.salt))
            for index, arrival in enumerate(self._arrivals)
        ]
        self._idle: list[Connection] = []
        self._busy: dict[Connection, Seen] = {}
        self._all: list[Seen] = []
        self._late_s: list[float] = []

    async def play(self) -> Told:
        """Send everything, wait for what may still be good, and judge."""
        began_s, cpu_s = time.perf_counter(), time.process_time()
        async with asyncio.TaskGroup() as opening:
            for arrival, request in zip(self._arrivals, self._requests, strict=True):
                due_s = began_s + arrival.at_s
                await asyncio.sleep(max(0.0, due_s - time.perf_counter()))
                seen = Seen(arrival, due_s)
                self._all.append(seen)
                self._late_s.append(time.perf_counter() - due_s)
                self._send(seen, request, opening)
        busy_fraction = (time.process_time() - cpu_s) / (time.perf_counter() - began_s)
        until_s = time.perf_counter() + PATIENCE_S
        while self._pending() and time.perf_counter() < until_s:  # noqa: ASYNC110 - it is time that has to pass
            await asyncio.sleep(POLL_S)
        for connection in [*self._busy, *self._idle]:
            connection.close()
        return self._judge(busy_fraction)

    def _send(self, seen: Seen, request: bytes, opening: asyncio.TaskGroup) -> None:
        while self._idle:
            connection = self._idle.pop()
            if connection.open:
                self._start(connection, seen, request)
                return
        opening.create_task(self._open(seen, request))

    async def _open(self, seen: Seen, request: bytes) -> None:
        try:
            _, connection = await asyncio.get_running_loop().create_connection(
                lambda: Connection(self._done), "127.0.0.1", self._replay.port
            )
        except OSError:
            seen.ended, seen.fault = True, "no connection"
            return
        self._start(connection, seen, request)

    def _start(self, connection: Connection, seen: Seen, request: bytes) -> None:
        self._busy[connection] = seen
        connection.send(request, _Body(seen))

    def _done(self, connection: Connection, fault: str) -> None:
        seen = self._busy.pop(connection)
        seen.ended, seen.fault = True, fault
        if connection.open:
            self._idle.append(connection)

    def _pending(self) -> bool:
        """True while some judged request may still turn out either way."""
        now_s, replay = time.perf_counter(), self._replay
        return any(
            seen.first_s or now_s - seen.due_s < replay.ttft_s
            for seen in self._busy.values()
            if seen.arrival.at_s >= replay.warm_s
        )

    def _judge(self, busy_fraction: float) -> Told:
        told, replay = Told(busy_fraction=busy_fraction), self._replay
        for seen in self._all:
            if seen.arrival.at_s < replay.warm_s:
                continue
            told.judged += 1
            ttft_s, tpot_s = seen.ttft_s(), seen.tpot_s(replay.interval_tokens)
            if seen.first_s:
                told.ttft_s.append(ttft_s)
                told.tpot_s.append(tpot_s)
            fault = seen.fault
            if not fault and ttft_s > replay.ttft_s:
                fault = "late first token"
            elif not fault and tpot_s > replay.tpot_s:
                fault = "slow tokens"
            if fault:
                told.faults[fault] = told.faults.get(fault, 0) + 1
            told.good += not fault
        told.ttft_s, told.tpot_s = _percentiles(told.ttft_s), _percentiles(told.tpot_s)
        told.late_p99_s = percentile(self._late_s, 0.99)
        return told


def _percentiles(values: list[float]) -> list[float]:
    return [round(percentile(values, fraction), 4) for fraction in (0.5, 0.95, 0.99)] if values else []


def body_of(arrival: Arrival, own: str, salt: str) -> bytes:
    """The request's body: words for the tokens, its own ones after those of the blocks that the trace names."""
    words: list[str] = []
    for block in arrival.blocks[: arrival.prompt_tokens // BLOCK_TOKENS]:
        words += block_words(salt, block)
    missing = max(1, arrival.prompt_tokens - TEMPLATE_TOKENS - len(words))
    words += Random(own).choices(WORDS, k=missing)
    return orjson.dumps(
        {
            "model": MODEL,
            "messages": [{"role": "user", "content": " ".join(words)}],
            "stream": True,
            "stream_options": {"include_usage": True},
            "max_tokens": MOST_OUTPUT_TOKENS,
            "min_tokens": arrival.output_tokens,
        }
    )


@lru_cache(maxsize=4096)
def block_words(salt: str, block: int) -> tuple[str, ...]:
    """The words of a shared block of a trace."""
    return tuple(Random(f"{salt} block {block}").choices(WORDS, k=BLOCK_TOKENS))


def main(arguments: Sequence[str]) -> None:
    """Play the replay that is the only argument, and print what was seen."""
    (text,) = arguments
    told = uvloop.run(OpenLoop(Replay(**orjson.loads(text))).play())
    sys.stdout.write(orjson.dumps(asdict(told)).decode() + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
