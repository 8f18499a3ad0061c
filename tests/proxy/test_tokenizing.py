"""Questions about tokens, answered where the tokenizer is known."""

from typing import Any

import orjson
import pytest

from gpubalancer.brain.content import read_content
from gpubalancer.brain.experience import Experience, count
from gpubalancer.domain.errors import RequestError
from gpubalancer.domain.work import Work
from gpubalancer.policy.schema import Policy
from gpubalancer.proxy.generation import Generation, build_generation
from gpubalancer.proxy.tokenizing import token_answer
from gpubalancer.wire.sweep import Sweeper
from tests.wire.fakes import Clock

POLICY = Policy.model_validate(
    {
        "backends": [{"url": "http://127.0.0.1:9", "name": "b", "models": ["m", "n"]}],
        "models": {"m": {"tokenizer": "cl100k_base", "context_tokens": 4096}},
    }
)


def generation() -> Generation:
    """The policy, ready to serve."""
    clock = Clock()
    return build_generation(1, POLICY, {"b": 0}, {}, None, clock, Sweeper(clock))


def answer(api: str, shape: str, model: str = "m", **fields: Any) -> Any:
    """The answer's JSON, or None."""
    settings, said = generation(), read_content(shape, fields)
    work = Work(api, model, 0, streamed=False, deadline_s=float("inf"), tenant="anonymous")
    plan = settings.insight.book.plan(said, model)
    Experience().expect(work, said, plan, count(plan))
    made = token_answer(api, work, said, settings)
    return None if made is None else orjson.loads(made[1])


def test_a_prompt_is_tokenized() -> None:
    """The count, the tokens and the model's context, as vLLM answers."""
    assert answer("tokenize", "completions", prompt="hello world") == {
        "count": 2,
        "max_model_len": 4096,
        "tokens": [15339, 1917],
    }


def test_a_conversation_is_counted_with_its_template() -> None:
    """Tokens between the texts are special ones, so that only the count is told."""
    messages = [{"role": "user", "content": "hello world"}]
    assert answer("tokenize", "chat", messages=messages) == {"count": 9, "max_model_len": 4096}


def test_anthropics_question_has_anthropics_answer() -> None:
    """One number."""
    made = answer("messages", "messages", messages=[{"role": "user", "content": "hello world"}], max_tokens=1)
    assert list(made) == ["input_tokens"]
    assert made["input_tokens"] >= 2


def test_a_model_without_a_tokenizer_is_left_to_its_backend_or_refused() -> None:
    """Backends know `count_tokens`; nobody else answers `/v1/tokenize`."""
    assert answer("messages", "messages", "n", messages=[{"role": "user", "content": "x"}], max_tokens=1) is None
    with pytest.raises(RequestError) as caught:
        answer("tokenize", "completions", "n", prompt="x")
    assert (caught.value.code, caught.value.status) == ("unknown_tokenizer", 404)


def test_a_list_that_is_not_what_the_engine_reads_is_not_told() -> None:
    """Llama's engines put a token before the prompt: it is counted, and the list is left out."""
    policy = Policy.model_validate(
        {
            "backends": [{"url": "http://127.0.0.1:9", "name": "b", "models": ["m"]}],
            "models": {"m": {"tokenizer": "llama3"}},
        }
    )
    clock = Clock()
    settings = build_generation(1, policy, {"b": 0}, {}, None, clock, Sweeper(clock))
    said = read_content("completions", {"prompt": "hello world"})
    work = Work("tokenize", "m", 0, streamed=False, deadline_s=float("inf"), tenant="anonymous")
    plan = settings.insight.book.plan(said, "m")
    Experience().expect(work, said, plan, count(plan))
    made = token_answer("tokenize", work, said, settings)
    assert made is not None
    assert orjson.loads(made[1]) == {"count": 3, "max_model_len": None}
