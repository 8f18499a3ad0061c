"""What every tokenizer keeps to."""

import time

import pytest

from gpubalancer.brain.tokens.tokenizer import TokenizerError
from gpubalancer.brain.tokens.vocabularies import NAMES, load
from tests.brain.tokens.texts import TEXTS, WORST, worst


@pytest.mark.parametrize("name", NAMES)
def test_count_is_the_length_of_encode(name: str) -> None:
    """Both functions are of one mind."""
    tokenizer = load(name)
    assert all(tokenizer.count(text) == len(tokenizer.encode(text)) for text in TEXTS.values())


@pytest.mark.parametrize("name", ["cl100k_base", "o200k_base", "llama3", "qwen3"])
@pytest.mark.parametrize("kind", WORST)
def test_what_the_loop_counts_takes_no_time(name: str, kind: str) -> None:
    """`loop_bytes` of the worst texts are counted in less than 5 ms of CPU."""
    tokenizer = load(name)
    text = worst(kind, tokenizer.loop_bytes)[: tokenizer.loop_bytes]
    best_s = 1.0
    for _ in range(3):
        start_s = time.thread_time()
        tokenizer.count(text)
        best_s = min(best_s, time.thread_time() - start_s)
    assert best_s < 0.005


def test_an_operators_mistake_is_a_value_error() -> None:
    """`check` reports it like any other wrong value."""
    assert issubclass(TokenizerError, ValueError)
