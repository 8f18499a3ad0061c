"""A continuous-batching inference engine, step by step, without clock or I/O.

The scheduler is vLLM's. Each step first gives one token, or the next chunk of its prompt, to every running request in
the order in which they started, then starts waiting ones first come, first served, until slots, blocks or the step's
token budget run out. A prompt's beginning that is in memory already is not computed again. When a running request needs
a block and none is free, the youngest running one is preempted: it loses its blocks, goes to the head of the queue, and
computes everything again later.

Time is an argument: `begin_step(now_s)` says how long the step takes, the caller lets that pass, `end_step()` says
which tokens came out. In between `submit` and `cancel` may be called; a cancelled request is gone at once.

    step = engine.begin_step(now_s)
    if step is not None:
        engine.end_step()          # at step.ends_s: step.tokens, step.finished
"""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum, StrEnum

from gpubalancer.sim.blocks import BLOCK_TOKENS, BlockPool, chain_hash, chain_hashes
from gpubalancer.sim.hardware import Hardware


class Reason(StrEnum):
    """Why an answer ended, in the API's words."""

    STOP = "stop"
    LENGTH = "length"
    ABORT = "abort"


class Phase(Enum):
    """Where a request is in its life."""

    WAITING = 1
    RUNNING = 2
    DONE = 3


@dataclass(eq=False, slots=True)
class Request:
    """One sequence to generate.

    Arguments:
        prompt: token numbers, at least one.
        script: the number of output token i, counted from 0. The engine decides when, not what.
        output_tokens: how many to produce; 0 for an embedding, which ends when its prompt is read.
        reason: what the end is called once they are produced.
        salt: keeps prefixes of different salts apart.
    """

    prompt: Sequence[int]
    script: Callable[[int], int]
    output_tokens: int
    reason: Reason = Reason.LENGTH
    salt: int = 0

    phase: Phase = field(default=Phase.DONE, init=False)
    tokens: list[int] = field(default_factory=list, init=False)
    computed: int = field(default=0, init=False)
    produced: int = field(default=0, init=False)
    blocks: list[int] = field(default_factory=list, init=False)
    named: int = field(default=0, init=False)
    names: list[int] = field(default_factory=list, init=False)
    cached_tokens: int = field(default=0, init=False)
    preemptions: int = field(default=0, init=False)
    arrived_s: float = field(default=0.0, init=False)
    started_s: float | None = field(default=None, init=False)
    first_token_s: float | None = field(default=None, init=False)
    last_token_s: float | None = field(default=None, init=False)

    @property
    def decoding(self) -> bool:
        """Only the newest token is still to be computed, and it is an output token."""
        return self.produced > 0 and self.computed == len(self.tokens) - 1


@dataclass(slots=True)
class Step:
    """One pass through the model: what it computes and, after `end_step`, what came out."""

    started_s: float
    duration_s: float = 0.0
    chunks: list[tuple[Request, int]] = field(default_factory=list)
    started: list[Request] = field(default_factory=list)
    preempted: list[Request] = field(default_factory=list)
    tokens: list[tuple[Request, int]] = field(default_factory=list)
    finished: list[tuple[Request, Reason]] = field(default_factory=list)

    @property
    def ends_s(self) -> float:
        """When its tokens are there."""
        return self.started_s + self.duration_s


class Engine:
    """Slots, queue and blocks of one simulated server.

    Arguments:
        hardware: the class that sets the durations.
        slots, kv_blocks, batch_tokens: in place of the class's own figures.

    Attributes:
        speed_fraction: how fast it runs, of its full speed; a step under way keeps its duration.
        busy_s, filled_s: what all ended steps took, and the same with each step weighted by its tokens per slot, at
            most 1.
    """

    def __init__(
        self,
        hardware: Hardware,
        *,
        slots: int | None = None,
        kv_blocks: int | None = None,
        batch_tokens: int | None = None,
    ) -> None:
        self.hardware = hardware
        self.slots = slots or hardware.slots
        self.batch_tokens = batch_tokens or hardware.batch_tokens
        self.pool = BlockPool(kv_blocks or hardware.kv_blocks)
        self.running: list[Request] = []
        self.waiting: deque[Request] = deque()
        self.speed_fraction = 1.0
        self.busy_s = 0.0
        self.filled_s = 0.0
        self._step: Step | None = None

    def __repr__(self) -> str:
        return f"<Engine {self.hardware.name} {len(self.running)} running, {len(self.waiting)} waiting, {self.pool!r}>"

    @property
    def load(self) -> int:
        """Requests inside, running and waiting."""
        return len(self.running) + len(self.waiting)

    @property
    def step_tokens(self) -> int:
        """Tokens that the step under way computes; 0 between two."""
        return sum(count for _, count in self._step.chunks) if self._step else 0

    def submit(self, request: Request, now_s: float) -> None:
        """Put a request at the end of the queue.

        Raises: ValueError where prompt and output together can never fit into the blocks, or the prompt is empty.
        """
        most_tokens = len(request.prompt) + request.output_tokens
        if not request.prompt or _blocks_for(most_tokens) > self.pool.count:
            raise ValueError(f"{most_tokens} tokens do not fit into {self.pool.count} blocks")
        request.tokens = list(request.prompt)
        request.names = chain_hashes(request.salt, request.prompt)
        request.phase = Phase.WAITING
        request.arrived_s = now_s
        self.waiting.append(request)

    def cancel(self, request: Request) -> bool:
        """Drop a request wherever it is and free what it holds. Returns False where it had ended already."""
        if request.phase is Phase.DONE:
            return False
        if request.phase is Phase.RUNNING:
            self.running.remove(request)
        else:
            self.waiting.remove(request)
        self._retire(request)
        return True

    def begin_step(self, now_s: float) -> Step | None:
        """Choose what the next step computes. Returns None where there is nothing to do."""
        if self._step is not None:
            raise RuntimeError("the step before has not ended")
        step = Step(now_s)
        budget = self._continue_running(step, self.batch_tokens)
        if not step.preempted:
            self._start_waiting(step, budget)
        if not step.chunks:
            return None
        step.duration_s = self._duration_s(step.chunks) / self.speed_fraction
        self._step = step
        return step

    def end_step(self) -> Step:
        """Give the step's tokens to its requests; those cancelled meanwhile get none. Returns the step, complete."""
        tokens = self.step_tokens
        step, self._step = self._step, None
        if step is None:
            raise RuntimeError("no step has begun")
        self.busy_s += step.duration_s
        self.filled_s += step.duration_s * min(1.0, tokens / self.slots)
        for request, count in step.chunks:
            if request.phase is Phase.RUNNING:
                self._advance(step, request, count)
        return step

    def _continue_running(self, step: Step, budget: int) -> int:
        """Schedule the running requests; returns what is left of the token budget."""
        index = 0
        while index < len(self.running) and budget > 0:
            request = self.running[index]
            count = min(len(request.tokens) - request.computed, budget)
            while not self._grow(request, request.computed + count):
                victim = self.running.pop()
                self._preempt(step, victim)
                if victim is request:
                    break
            else:
                step.chunks.append((request, count))
                budget -= count
                index += 1
        return budget

    def _start_waiting(self, step: Step, budget: int) -> None:
        """Start waiting requests in order while slots, blocks and budget last."""
        while self.waiting and budget > 0 and len(self.running) < self.slots:
            request = self.waiting[0]
            # The last token is always computed: its pass gives the next one.
            shared = self.pool.prefix(request.names[: (len(request.tokens) - 1) // BLOCK_TOKENS])
            cached = len(shared) * BLOCK_TOKENS
            count = min(len(request.tokens) - cached, budget)
            fresh = self.pool.take(shared, _blocks_for(cached + count) - len(shared))
            if fresh is None:
                return
            self.waiting.popleft()
            self._start(step, request, shared + fresh, cached)
            step.chunks.append((request, count))
            budget -= count

    def _start(self, step: Step, request: Request, blocks: list[int], cached: int) -> None:
        request.phase = Phase.RUNNING
        request.blocks = blocks
        request.computed = cached
        request.named = cached // BLOCK_TOKENS
        if request.started_s is None:
            request.started_s = step.started_s
            request.cached_tokens = cached
            step.started.append(request)
        self.running.append(request)

    def _grow(self, request: Request, tokens: int) -> bool:
        """Make room for `tokens` of this request. Returns False where blocks lack."""
        missing = _blocks_for(tokens) - len(request.blocks)
        if missing <= 0:
            return True
        fresh = self.pool.take((), missing)
        if fresh is None:
            return False
        request.blocks += fresh
        return True

    def _preempt(self, step: Step, request: Request) -> None:
        self.pool.release(request.blocks)
        request.blocks = []
        request.computed = request.named = 0
        request.preemptions += 1
        request.phase = Phase.WAITING
        self.waiting.appendleft(request)
        step.preempted.append(request)

    def _advance(self, step: Step, request: Request, count: int) -> None:
        request.computed += count
        if request.computed >= (request.named + 1) * BLOCK_TOKENS:
            self._name_blocks(request)
        if request.computed < len(request.tokens):
            return
        if request.produced < request.output_tokens:
            token = request.script(request.produced)
            request.tokens.append(token)
            request.produced += 1
            if request.first_token_s is None:
                request.first_token_s = step.ends_s
            request.last_token_s = step.ends_s
            step.tokens.append((request, token))
        if request.produced >= request.output_tokens:
            self.running.remove(request)
            self._retire(request)
            step.finished.append((request, request.reason))

    def _name_blocks(self, request: Request) -> None:
        """Name every block that is full by now."""
        while request.computed >= (request.named + 1) * BLOCK_TOKENS:
            index = request.named
            if index == len(request.names):
                start = index * BLOCK_TOKENS
                parent = request.names[-1] if request.names else request.salt
                request.names.append(chain_hash(parent, request.tokens[start : start + BLOCK_TOKENS]))
            self.pool.name(request.blocks[index], request.names[index])
            request.named += 1

    def _retire(self, request: Request) -> None:
        self.pool.release(request.blocks)
        request.blocks = []
        request.phase = Phase.DONE

    def _duration_s(self, chunks: Sequence[tuple[Request, int]]) -> float:
        hardware = self.hardware
        prefill_s = 0.0
        batch = context_tokens = 0
        for request, count in chunks:
            if request.decoding:
                batch += 1
                context_tokens += len(request.tokens)
            else:
                prefill_s += hardware.chunk_s(request.computed, count)
        if not batch:
            return hardware.a0_s + prefill_s
        decode_s = hardware.step_s(batch, context_tokens)
        if batch == len(chunks):
            return decode_s
        return max(hardware.a0_s, hardware.d0_s) - hardware.d0_s + decode_s + prefill_s


def _blocks_for(tokens: int) -> int:
    return -(-tokens // BLOCK_TOKENS)
