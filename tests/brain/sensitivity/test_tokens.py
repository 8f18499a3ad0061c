"""Tokens with a form of their own."""

from random import Random

import pytest

from bench.corpus.tokens import TOKENS, Make
from gpubalancer.brain.sensitivity.tokens import TOKEN_RULES
from tests.brain.sensitivity.scanning import found


@pytest.mark.parametrize(("name", "make"), TOKENS, ids=[name for name, _ in TOKENS])
def test_every_kind_is_found(name: str, make: Make) -> None:
    """Fifty random secrets of each kind are found, once, alone and in a sentence."""
    random = Random(name)
    for _ in range(50):
        secret = make(random)
        assert found(secret) == {"secrets": 1}
        assert found(f"use {secret} in staging") == {"secrets": 1}


@pytest.mark.parametrize(
    "text",
    [
        "AK" + "IAIOSFODNN7EXAMPLE",
        "gh" + "p_" + "x" * 36,
        "hf" + "_" + "a" * 34,
        "sk" + "-proj-...",
        "SK" + "0" * 32,
        "xAK" + "IA234567ABCDEFGHIJ",
        "AK" + "IA2345",
    ],
)
def test_placeholders_and_pieces_are_none(text: str) -> None:
    """What documentation writes, what is too short and what stands inside a word is no token."""
    assert found(text) == {}


def test_each_rule_has_the_form_it_triggers_on() -> None:
    """The exact expression takes what the trigger takes, but for what stands before it."""
    assert all(rule.pattern.pattern.endswith(rule.trigger.removeprefix(rb"\b")) for rule in TOKEN_RULES)
