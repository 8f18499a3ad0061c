"""From what a call asks to the engine's requests and the answers they will give. No I/O."""

from dataclasses import dataclass, field
from zlib import crc32

from gpubalancer.sim.blocks import BLOCK_TOKENS
from gpubalancer.sim.bodies import Ask
from gpubalancer.sim.engine import Engine, Reason, Request
from gpubalancer.sim.errors import context_too_long, unknown_model
from gpubalancer.sim.hardware import Hardware
from gpubalancer.sim.shapes import Usage
from gpubalancer.sim.words import MEAN_OUTPUT_TOKENS, Answer, Script, plan_answer

MOST_CONTEXT_TOKENS = 131_072
"""Llama 3.1's context, the limit unless the blocks hold less."""


@dataclass(frozen=True, slots=True)
class Settings:
    """One simulated server.

    Arguments:
        models: the names it answers to; the first is the `model_name` of its metrics.
        hardware: its class.
        name: what it calls itself; part of every answer's id.
        seed: decides every answer whose request brings no seed, and which calls fail.
        speedup: engine seconds per wall-clock second; infinite takes no time but the processor's.
        slots, kv_blocks, batch_tokens: in place of the class's own.
        context_tokens: most tokens of a prompt and its answer; None is what the blocks hold, at most 131,072.
        mean_output_tokens: of answers that nothing limits.
        queue_limit: most requests that may wait for a slot; None is no limit. Beyond it: 503.
        api_key: if set, the bearer key that `/v1` paths demand.
        fail_after_tokens: if set, every stream's connection breaks after so many tokens.
        error_fraction: this share of the calls is answered 500.
        stream_interval: tokens that one event of a stream carries, but for the first, which leaves at once.
        visible: whether `/metrics` and `/version` exist; None follows the class.
    """

    models: tuple[str, ...]
    hardware: Hardware
    name: str = "engine"
    seed: int = 0
    speedup: float = 1.0
    slots: int | None = None
    kv_blocks: int | None = None
    batch_tokens: int | None = None
    context_tokens: int | None = None
    mean_output_tokens: float = MEAN_OUTPUT_TOKENS
    queue_limit: int | None = None
    api_key: str | None = None
    fail_after_tokens: int | None = None
    error_fraction: float = 0.0
    stream_interval: int = 1
    visible: bool | None = None

    def engine(self) -> Engine:
        """An engine as these settings want it, empty."""
        return Engine(self.hardware, slots=self.slots, kv_blocks=self.kv_blocks, batch_tokens=self.batch_tokens)

    @property
    def longest_tokens(self) -> int:
        """The context that is really served: one request must fit into the blocks."""
        most_tokens = (self.kv_blocks or self.hardware.kv_blocks) * BLOCK_TOKENS
        return min(self.context_tokens or MOST_CONTEXT_TOKENS, most_tokens)


@dataclass(slots=True)
class Call:
    """One call under way: choice i is `requests[i]` and says `answers[i]`."""

    ask: Ask
    requests: list[Request] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)

    def usage(self) -> Usage:
        """Tokens so far. A prompt counts once, however many answers it gets."""
        firsts = self.requests[:: self.ask.n]
        return Usage(
            prompt_tokens=sum(len(request.prompt) for request in firsts),
            cached_tokens=sum(request.cached_tokens for request in firsts),
            completion_tokens=sum(request.produced for request in self.requests),
        )


def plan_call(ask: Ask, settings: Settings) -> Call:
    """Decide every answer of a call.

    Raises: ApiError 404 for a model not served, 400 where the context cannot hold a prompt with its output.
    """
    if ask.model not in settings.models:
        raise unknown_model(ask.model)
    call = Call(ask)
    for prompt in ask.prompts:
        room_tokens = settings.longest_tokens - len(prompt)
        least_room = ask.limit_tokens if ask.limit_tokens is not None else 1
        if room_tokens < least_room:
            raise context_too_long(settings.longest_tokens, len(prompt), ask.limit_tokens)
        limit_tokens = room_tokens if ask.limit_tokens is None else ask.limit_tokens
        for choice in range(ask.n):
            answer = _plan(ask, settings, Script(_seed(ask, settings), prompt, choice), limit_tokens)
            salt = crc32(ask.salt.encode())
            call.requests.append(Request(prompt, answer.script.token, answer.tokens, answer.reason, salt))
            call.answers.append(answer)
    return call


def _seed(ask: Ask, settings: Settings) -> int:
    return settings.seed if ask.seed is None else ask.seed


def _plan(ask: Ask, settings: Settings, script: Script, limit_tokens: int) -> Answer:
    if limit_tokens == 0:
        return Answer(script, 0, Reason.STOP)
    return plan_answer(
        script,
        limit_tokens=limit_tokens,
        mean_tokens=settings.mean_output_tokens,
        least_tokens=ask.least_tokens,
        endless=ask.endless,
        stop=ask.stop,
    )
