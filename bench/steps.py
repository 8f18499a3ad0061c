"""A fleet of simulated engines behind the choice, step by step and without sockets: many seeds in seconds.

Requests arrive at given times, wait in one line in arrival order while the choice says `hold`, and are refused when it
says `hopeless`; of the line the first `REACH` may look, as in `proxy/placing`. The engines are those of
`gpubalancer.sim`, so batches, prompts in chunks and queues are real; time is only counted. What was learned takes
effect once a second, as between workers and supervisor. Goodput is the share of the requests that arrived after warming
up whose first token came within the SLO's TTFT and whose further tokens came within its TPOT on average.
"""

import heapq
import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from random import Random
from typing import Any, Literal

from bench.fleets import Simulated, policy_text
from bench.prompts import MODEL
from bench.traces import Arrival
from gpubalancer.brain.calibrate import Calibrator, Sample, sample_of
from gpubalancer.brain.choose import choose
from gpubalancer.brain.columns import build_economy, columns_of, measured, rows_of
from gpubalancer.brain.fleet import Fleet, build_fleet
from gpubalancer.brain.live import Live
from gpubalancer.brain.method import Method, method_of
from gpubalancer.brain.outputs import OutputLengths
from gpubalancer.brain.priors import prior_of
from gpubalancer.brain.weighed import Forecast
from gpubalancer.domain.work import Work
from gpubalancer.policy.load import parse
from gpubalancer.policy.routing import Routing
from gpubalancer.proxy.placing import REACH, RECHECK_S
from gpubalancer.sim.engine import Engine, Request, Step
from gpubalancer.sim.hardware import HARDWARE

Policy = Literal["choice", "oracle", "least in flight", "round robin", "random"]
"""`oracle`: the choice with every engine's true curves from the start."""
LEARN_S = 1.0
PATIENCE_S = 12.0
"""After the last arrival; as on sockets."""


@dataclass(eq=False)
class Sent:
    """A request in an engine."""

    arrival: Arrival
    backend: int
    sent_s: float
    expected_tokens: int
    forecast: Forecast | None
    read_before_tokens: int = 0


@dataclass
class Stage:
    """The fleet, the line and the counts.

    Arguments:
        machines: what each backend really is.
        policy: how is chosen. The simple ones go by share of slots.
        fleet, method: what the choice takes them for.
        ttft_s, tpot_s: the SLO.
        warm_s: who arrives before is not judged.
        learns: times of answers correct what backends are taken for.
    """

    machines: Sequence[Simulated]
    policy: Policy
    fleet: Fleet
    method: Method
    ttft_s: float = 2.0
    tpot_s: float = 0.1
    warm_s: float = 0.0
    learns: bool = True
    good: int = 0
    judged: int = 0
    refused: int = 0
    calibrator: Calibrator = field(default_factory=Calibrator)

    def __post_init__(self) -> None:
        number = len(self.machines)
        self.random, self.order = Random(5), count()
        self.engines = [Engine(HARDWARE[each.hardware], slots=each.slots) for each in self.machines]
        self.busy = [False] * number
        self.in_flight, self.queued, self.context, self.read = ([0] * number for _ in range(4))
        self.lengths = OutputLengths()
        self.line: deque[Arrival] = deque()
        self.sent: dict[Request, Sent] = {}
        self.samples: list[Sample] = []
        self.events: list[tuple[float, int, str, Any]] = []
        self.credits = [0] * number
        self.looked_s = 0.0
        self.routing = Routing.model_validate({"slo": {"ttft": f"{self.ttft_s}s", "tpot": f"{self.tpot_s}s"}})
        if self.policy == "oracle":
            self.learns = False
            rows = [
                replace(row, **_truth(each))
                for row, each in zip(rows_of(self.method.economy), self.machines, strict=True)
            ]
            self.method = method_of(self.routing, columns_of(rows))
        claims = zip(self.fleet.names, self.fleet.hardware, self.fleet.kinds, strict=True)
        self.calibrator.expect({name: prior_of(hardware, kind) for name, hardware, kind in claims})

    def play(self, arrivals: Sequence[Arrival]) -> float:
        """Let all arrive and end; returns the goodput."""
        for arrival in arrivals:
            self._at(arrival.at_s, "arrive", arrival)
        until_s = arrivals[-1].at_s + PATIENCE_S
        for tick in range(1, math.ceil(until_s / LEARN_S)):
            self._at(tick * LEARN_S, "learn", None)
        while self.events and self.events[0][0] <= until_s:
            now_s, _, kind, what = heapq.heappop(self.events)
            # As in the placer: who comes to an empty line looks at once, a line moves when somebody ends.
            is_change, in_flight = not self.line, sum(self.in_flight)
            if kind == "arrive":
                self.judged += what.at_s >= self.warm_s
                self.line.append(what)
            elif kind == "enter":
                self._enter(what, now_s)
            elif kind == "step":
                self._end_step(what)
            else:
                self._learn(now_s)
            is_change |= sum(self.in_flight) < in_flight
            if self.line and (is_change or now_s - self.looked_s >= RECHECK_S):
                self.looked_s = now_s
                self._move_line(now_s)
        for made, sent in self.sent.items():
            first_s = made.first_token_s or math.inf
            self._judge(sent, first_s, (until_s - first_s) / max(made.produced, 1))
        return self.good / self.judged

    def _at(self, at_s: float, kind: str, what: Any) -> None:
        heapq.heappush(self.events, (at_s, next(self.order), kind, what))

    def _move_line(self, now_s: float) -> None:
        passed: list[Arrival] = []
        while self.line and len(passed) < REACH:
            arrival = self.line.popleft()
            expected = self.lengths.expect("t", "m", "chat", None, 1).median
            if self.policy not in ("choice", "oracle"):
                self._send(arrival, self._simple(), expected, None, now_s)
                continue
            number = len(self.machines)
            live = Live([True] * number, [False] * number, list(self.in_flight), list(self.queued), list(self.context))
            work = Work(
                *("chat", MODEL, 0, True, math.inf), prompt_tokens=arrival.prompt_tokens, output_tokens=expected
            )
            choice = choose(self.fleet, work, live, None, self.random, self.method, now_s - arrival.at_s)
            if choice.wait == "hold":
                passed.append(arrival)
            elif choice.index is None:
                self.refused += 1
            else:
                self._send(arrival, choice.index, expected, choice.forecast, now_s)
        self.line.extendleft(reversed(passed))

    def _simple(self) -> int:
        slots = [each.slots for each in self.machines]
        if self.policy == "random":
            return self.random.choices(range(len(slots)), slots)[0]
        if self.policy == "round robin":
            # Smooth and by weight, as nginx does it.
            self.credits = [credit + each for credit, each in zip(self.credits, slots, strict=True)]
            most = self.credits.index(max(self.credits))
            self.credits[most] -= sum(slots)
            return most
        shares = [(ours + 1) / most for ours, most in zip(self.in_flight, slots, strict=True)]
        return self.random.choice([index for index, share in enumerate(shares) if share == min(shares)])

    def _send(self, arrival: Arrival, backend: int, expected: int, forecast: Forecast | None, now_s: float) -> None:
        self.in_flight[backend] += 1
        self.queued[backend] += arrival.prompt_tokens
        self.context[backend] += arrival.prompt_tokens + expected // 2
        network_s = HARDWARE[self.machines[backend].hardware].network_s
        self._at(now_s + network_s, "enter", Sent(arrival, backend, now_s, expected, forecast))

    def _enter(self, sent: Sent, now_s: float) -> None:
        number = next(self.order) * 1_000_000
        prompt = range(number, number + sent.arrival.prompt_tokens)
        made = Request(prompt, lambda index: index, sent.arrival.output_tokens)
        self.sent[made] = sent
        self.engines[sent.backend].submit(made, now_s)
        self._begin_step(sent.backend, now_s)

    def _begin_step(self, backend: int, now_s: float) -> None:
        step = None if self.busy[backend] else self.engines[backend].begin_step(now_s)
        if step is not None:
            self.busy[backend] = True
            self._at(step.ends_s, "step", backend)

    def _end_step(self, backend: int) -> None:
        self.busy[backend] = False
        step: Step = self.engines[backend].end_step()
        firsts = [made for made, _ in step.tokens if made.produced == 1]
        self.queued[backend] -= sum(len(made.prompt) for made in firsts)
        self.read[backend] += sum(len(made.prompt) for made in firsts)
        for made in firsts:
            self.sent[made].read_before_tokens = self.read[backend]
        for made, _ in step.finished:
            self._end(made)
        self._begin_step(backend, step.ends_s)

    def _end(self, made: Request) -> None:
        sent = self.sent.pop(made)
        backend, first_s = sent.backend, made.first_token_s or math.inf
        self.in_flight[backend] -= 1
        self.context[backend] -= len(made.prompt) + sent.expected_tokens // 2
        tpot_s = ((made.last_token_s or math.inf) - first_s) / max(made.produced - 1, 1)
        self._judge(sent, first_s, tpot_s)
        self.lengths.learn("t", "m", "chat", made.produced, 1)
        if self.learns and sent.forecast is not None:
            times = first_s - sent.sent_s, tpot_s, self.read[backend] - sent.read_before_tokens
            name, fresh_tokens = self.fleet.names[backend], float(len(made.prompt))
            self.samples.append(sample_of(name, sent.forecast, fresh_tokens, made.produced, *times))

    def _judge(self, sent: Sent, first_s: float, tpot_s: float) -> None:
        if sent.arrival.at_s >= self.warm_s:
            self.good += first_s - sent.arrival.at_s <= self.ttft_s and tpot_s <= self.tpot_s

    def _learn(self, now_s: float) -> None:
        changed = self.calibrator.learn(self.samples, now_s)
        self.samples = []
        if changed:
            learned = {self.fleet.names.index(name): self.calibrator.measured(name, now_s) for name in changed}
            self.method = method_of(self.routing, measured(self.method.economy, learned))


def _truth(machine: Simulated) -> dict[str, float]:
    hardware = HARDWARE[machine.hardware]
    return {
        "a0_s": hardware.a0_s,
        "a1_s": hardware.a1_s,
        "a2_s": hardware.a2_s,
        "d0_s": hardware.d0_s,
        "d1_s": hardware.d1_s,
        "d2_s": hardware.d2_s,
        "net_s": hardware.network_s,
    }


def stage(machines: Sequence[Simulated], policy: Policy, **settings: Any) -> Stage:
    """A fleet of these machines, each taken for what it is.

    Arguments:
        machines: the fleet.
        policy: how is chosen.
        settings: of `Stage`.
    """
    text = policy_text(machines, range(1, len(machines) + 1), settings.get("ttft_s", 2.0), settings.get("tpot_s", 0.1))
    read = parse(text, "placement.yaml", Path("/"), {})
    fleet = build_fleet(read, {each.name: row for row, each in enumerate(machines)}, {})
    return Stage(machines, policy, fleet, method_of(read.routing, build_economy(read, fleet)), **settings)
