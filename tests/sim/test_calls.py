"""Calls: what the engine is asked to do for a request."""

from dataclasses import replace

import pytest

from gpubalancer.sim.bodies import Ask
from gpubalancer.sim.calls import MOST_CONTEXT_TOKENS, Settings, plan_call
from gpubalancer.sim.engine import Reason
from gpubalancer.sim.errors import ApiError
from gpubalancer.sim.hardware import HARDWARE

SETTINGS = Settings(models=("m",), hardware=HARDWARE["h100"], seed=3)


def text(ask: Ask, settings: Settings = SETTINGS) -> list[str]:
    """The answers of a call as text."""
    return ["".join(answer.text(i) for i in range(answer.tokens)) for answer in plan_call(ask, settings).answers]


def test_choices_are_ordered_by_prompt() -> None:
    """Two prompts with two answers each make four requests, the first prompt's first, all different."""
    ask = Ask("m", ([1, 2], [3]), n=2, limit_tokens=5)
    call = plan_call(ask, SETTINGS)
    assert [list(request.prompt) for request in call.requests] == [[1, 2], [1, 2], [3], [3]]
    assert [request.output_tokens for request in call.requests] == [5] * 4
    assert len(set(text(ask))) == 4


def test_the_request_s_seed_wins_over_the_engine_s() -> None:
    """Without a seed engines differ by theirs; with one every engine says the same."""
    bare, seeded = Ask("m", ([1],), limit_tokens=20), Ask("m", ([1],), limit_tokens=20, seed=9)
    other = replace(SETTINGS, seed=4)
    assert text(bare) == text(bare)
    assert text(bare) != text(bare, other)
    assert text(seeded) == text(seeded, other)


def test_usage_counts_each_prompt_once() -> None:
    """A prompt with two answers is counted once, its output twice; the cached part is its first answer's."""
    call = plan_call(Ask("m", ([1, 2, 3],), n=2, limit_tokens=5), SETTINGS)
    for request, produced, cached in zip(call.requests, (5, 4), (0, 16), strict=True):
        request.produced, request.cached_tokens = produced, cached
    usage = call.usage()
    assert (usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens) == (3, 9, 0)


def test_no_limit_means_what_the_context_holds() -> None:
    """An endless answer without a limit fills the context and ends with `length`."""
    call = plan_call(Ask("m", ([1, 2, 3],), endless=True), replace(SETTINGS, context_tokens=100))
    assert (call.requests[0].output_tokens, call.requests[0].reason) == (97, Reason.LENGTH)


def test_no_output_is_a_plain_stop() -> None:
    """An embedding's request produces nothing and ends with `stop`."""
    (request,) = plan_call(Ask("m", ([1, 2, 3],), limit_tokens=0), SETTINGS).requests
    assert (request.output_tokens, request.reason) == (0, Reason.STOP)


@pytest.mark.parametrize(
    ("ask", "status", "words"),
    [
        (Ask("x", ([1],)), 404, "The model `x` does not exist."),
        (Ask("m", ([1] * 100,)), 400, "maximum context length is 100 tokens. However, your request has 100 input"),
        (Ask("m", ([1] * 99,), limit_tokens=2), 400, "is too large: 2. This model's maximum context length is 100"),
        (Ask("m", ([1] * 101,), limit_tokens=0), 400, "has 101 input tokens"),
    ],
)
def test_what_cannot_be_served_is_refused(ask: Ask, status: int, words: str) -> None:
    """Unknown models and prompts beyond the context are refused in vLLM's words."""
    with pytest.raises(ApiError) as refused:
        plan_call(ask, replace(SETTINGS, context_tokens=100))
    assert refused.value.status == status
    assert words in refused.value.message


def test_the_context_fits_into_the_blocks() -> None:
    """The served context is the model's, the setting's, or what the blocks hold, whichever is least."""
    assert SETTINGS.longest_tokens == MOST_CONTEXT_TOKENS
    assert replace(SETTINGS, context_tokens=50).longest_tokens == 50
    assert replace(SETTINGS, context_tokens=50, kv_blocks=2).longest_tokens == 32


def test_settings_reach_the_engine() -> None:
    """Slots, blocks and step budget given are the engine's; those not given are the class's."""
    engine = replace(SETTINGS, slots=3, kv_blocks=7, batch_tokens=9).engine()
    assert (engine.slots, engine.pool.count, engine.batch_tokens) == (3, 7, 9)
    assert SETTINGS.engine().slots == HARDWARE["h100"].slots
