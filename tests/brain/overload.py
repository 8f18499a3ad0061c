"""A fleet of simulated engines, step by step, behind the choice: for tests of what admission is worth.

Requests arrive at given times, wait in one line in arrival order while the choice says `hold`, and are refused when it
says `hopeless`. The engines are those of `gpubalancer.sim`, so batches, prompts in chunks and queues are real; time is
only counted. Goodput is the share of all requests whose first token came within the SLO's TTFT and whose further tokens
came within its TPOT on average.
"""

import heapq
import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from random import Random

import numpy as np

from gpubalancer.brain.calibrate import Calibrator, sample_of
from gpubalancer.brain.choose import choose
from gpubalancer.brain.columns import columns_of, measured
from gpubalancer.brain.live import Live
from gpubalancer.brain.method import Method, method_of
from gpubalancer.brain.priors import prior_of
from gpubalancer.brain.weighed import Forecast
from gpubalancer.policy.routing import Routing
from gpubalancer.sim.engine import Engine, Request, Step
from gpubalancer.sim.hardware import HARDWARE
from tests.brain.economies import fleet, request, row

TTFT_S, TPOT_S = 2.0, 0.1
ROUTING = Routing.model_validate({"slo": {"ttft": "2s", "tpot": "100ms"}})
EXPECTED_OUTPUT_TOKENS = 160
"""What the balancer reckons with for every request: it cannot know better."""


@dataclass(frozen=True)
class Arrival:
    """One request of a trace."""

    at_s: float
    prompt_tokens: int
    output_tokens: int


def chat(rate_per_s: float, seconds: float, seed: int) -> list[Arrival]:
    """Poisson arrivals of chats: prompts of 1150 tokens and outputs of 210 in the mean, both with a long tail."""
    random, arrivals, now_s = Random(seed), [], 0.0
    while (now_s := now_s + random.expovariate(rate_per_s)) < seconds:
        prompt, output = random.lognormvariate(6.7, 0.85), random.lognormvariate(5.1, 0.7)
        arrivals.append(Arrival(now_s, min(max(int(prompt), 8), 8000), min(max(int(output), 2), 1000)))
    return arrivals


@dataclass(eq=False)
class Sent:
    """A request in an engine."""

    arrival: Arrival
    backend: int
    sent_s: float
    forecast: Forecast | None


@dataclass
class Stage:
    """The fleet, the line and the counts.

    Arguments:
        hardware: what each backend really is.
        method: how is chosen; None for the least share of slots.
        claimed: what each is taken for, if speeds shall be learned.
    """

    hardware: Sequence[str]
    method: Method | None
    claimed: Sequence[str] | None = None
    good: int = 0
    refused: int = 0
    calibrator: Calibrator = field(default_factory=Calibrator)

    def __post_init__(self) -> None:
        number = len(self.hardware)
        self.random = Random(5)
        self.engines = [Engine(HARDWARE[name]) for name in self.hardware]
        self.fleet = fleet(number, [engine.slots for engine in self.engines])
        self.busy = [False] * number
        self.in_flight, self.queued, self.context = [0] * number, [0] * number, [0] * number
        self.line: deque[Arrival] = deque()
        self.sent: dict[Request, Sent] = {}
        self.steps: list[tuple[float, int, int]] = []
        self.order = count()
        if self.claimed is not None:
            self.calibrator.expect({f"b{index}": prior_of(name, None) for index, name in enumerate(self.claimed)})

    def play(self, arrivals: Sequence[Arrival]) -> float:
        """Let all arrive and end; returns the goodput."""
        ahead = deque(arrivals)
        while ahead or self.steps:
            if ahead and (not self.steps or ahead[0].at_s <= self.steps[0][0]):
                now_s = ahead[0].at_s
                self.line.append(ahead.popleft())
            else:
                now_s, _, backend = heapq.heappop(self.steps)
                self._end_step(backend)
            self._move_line(now_s)
        return self.good / len(arrivals)

    def _move_line(self, now_s: float) -> None:
        while self.line:
            arrival = self.line[0]
            state = Live(
                np.ones(len(self.busy), np.bool_),
                np.zeros(len(self.busy), np.bool_),
                list(self.in_flight),
                list(self.queued),
                list(self.context),
            )
            work = request(arrival.prompt_tokens, EXPECTED_OUTPUT_TOKENS)
            waited_s = now_s - arrival.at_s
            choice = choose(self.fleet, work, state, None, self.random, self.method, waited_s)
            if choice.wait == "hold":
                return
            self.line.popleft()
            if choice.index is None:
                self.refused += 1
            else:
                self._send(arrival, choice.index, choice.forecast, now_s)

    def _send(self, arrival: Arrival, backend: int, forecast: Forecast | None, now_s: float) -> None:
        number = next(self.order)
        prompt = range(number * 10_000, number * 10_000 + arrival.prompt_tokens)
        made = Request(prompt, lambda index: index, arrival.output_tokens)
        self.sent[made] = Sent(arrival, backend, now_s, forecast)
        self.in_flight[backend] += 1
        self.queued[backend] += arrival.prompt_tokens
        self.context[backend] += arrival.prompt_tokens
        self.engines[backend].submit(made, now_s)
        self._begin_step(backend, now_s)

    def _begin_step(self, backend: int, now_s: float) -> None:
        step = None if self.busy[backend] else self.engines[backend].begin_step(now_s)
        if step is not None:
            self.busy[backend] = True
            heapq.heappush(self.steps, (step.ends_s, next(self.order), backend))

    def _end_step(self, backend: int) -> None:
        self.busy[backend] = False
        step: Step = self.engines[backend].end_step()
        for made, _ in step.tokens:
            if made.produced == 1:
                self.queued[backend] -= len(made.prompt)
        for made, _ in step.finished:
            self._end(made, step.ends_s)
        self._begin_step(backend, step.ends_s)

    def _end(self, made: Request, now_s: float) -> None:
        sent = self.sent.pop(made)
        self.in_flight[sent.backend] -= 1
        self.context[sent.backend] -= len(made.prompt)
        first_s, last_s = made.first_token_s or math.inf, made.last_token_s or math.inf
        tpot_s = (last_s - first_s) / max(made.produced - 1, 1)
        self.good += first_s - sent.arrival.at_s <= TTFT_S and tpot_s <= TPOT_S
        if self.claimed is not None and sent.forecast is not None and self.method is not None:
            name, fresh = f"b{sent.backend}", float(len(made.prompt))
            sample = sample_of(name, sent.forecast, fresh, made.produced, first_s - sent.sent_s, tpot_s)
            self.calibrator.learn([sample], now_s)
            learned = {sent.backend: self.calibrator.measured(name, now_s)}
            self.method = method_of(ROUTING, measured(self.method.economy, learned))


def admitting(claimed: Sequence[str]) -> Method:
    """The choice with admission, for backends that are taken for these classes."""
    rows = [replace(row(name), slots=float(HARDWARE[name].slots)) for name in claimed]
    return method_of(ROUTING, columns_of(rows))
