"""What requests are expected to need, and what is learned from what they took."""

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpubalancer.brain.content import Content, read_content
from gpubalancer.brain.experience import Basis, Experience, count
from gpubalancer.brain.tokens.book import TokenBook
from gpubalancer.brain.tokens.counting import unknown_plan
from gpubalancer.domain.work import Work


def work(model: str = "m") -> Work:
    """A chat of the tenant `acme`."""
    return Work(api="chat", model=model, tier=0, streamed=False, deadline_s=float("inf"), tenant="acme")


def chat(text: str, **fields: Any) -> Content:
    """A conversation of one message."""
    return read_content("chat", {"model": "m", "messages": [{"role": "user", "content": text}], **fields})


def expect(experience: Experience, made: Work, said: Content) -> Basis:
    """What is expected without a tokenizer."""
    plan = unknown_plan(said)
    return experience.expect(made, said, plan, count(plan))


def test_without_a_tokenizer_tokens_are_estimated_and_the_estimate_learns() -> None:
    """After some hundred reports the estimate is what the engine says, though its tokens are half as long."""
    experience, said = Experience(), chat("one two three four five six seven eight " * 20)
    made = work()
    basis = expect(experience, made, said)
    first = made.prompt_tokens
    assert basis.extent is not None
    assert not made.counted
    for _ in range(200):
        experience.learn(made, basis, first * 2, 10)
    expect(experience, made, said)
    assert made.prompt_tokens == pytest.approx(first * 2, rel=0.05)


def test_with_a_tokenizer_tokens_are_counted() -> None:
    """Three tokens for a message, three that begin the answer, one for the role, and those of the text."""
    book, said = TokenBook({"m": "cl100k_base"}, seed=1), chat("hello world")
    made = work()
    plan = book.plan(said, "m")
    basis = Experience().expect(made, said, plan, count(plan))
    assert (made.prompt_tokens, made.counted, basis.extent) == (9, True, None)


def test_the_expected_output_is_capped_by_the_client_and_multiplied_by_answers() -> None:
    """`max_tokens` bounds one answer, and `n` asks for several."""
    made, said = work(), chat("hi", max_tokens=10, n=3)
    expect(Experience(), made, said)
    assert (made.output_tokens, made.output_tokens_high, made.batch) == (30, 30, 3)


def test_what_was_learned_survives_as_json() -> None:
    """A state that went through JSON expects the same."""
    experience, said, made = Experience(), chat("some words to learn from " * 30), work()
    basis = expect(experience, made, said)
    for _ in range(50):
        experience.learn(made, basis, 1000, 33)
    experience.cached.learn("b", 2_000.0, 0.0)
    expect(experience, made, said)
    again = work()
    restored = Experience.from_state(orjson.loads(orjson.dumps(experience.to_state())))
    expect(restored, again, said)
    assert (again.prompt_tokens, again.output_tokens) == (made.prompt_tokens, made.output_tokens)
    assert restored.cached.share("b") == experience.cached.share("b") < 1.0


@given(
    st.recursive(
        st.none() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    )
)
def test_any_state_is_taken_or_left(state: object) -> None:
    """What another version wrote never stops a start."""
    assert isinstance(Experience.from_state(state), Experience)
