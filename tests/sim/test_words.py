"""Pieces of text and planned answers."""

from hypothesis import given
from hypothesis import strategies as st

from gpubalancer.sim.engine import Reason
from gpubalancer.sim.words import VOCABULARY, Script, piece_number, plan_answer, tokenize


def said(script: Script, tokens: int) -> str:
    """The first tokens of a script as text."""
    return "".join(script.text(i) for i in range(tokens))


def test_pieces_are_words_numbers_and_signs() -> None:
    """Cuts follow words with their space, three digits, single signs and letters of other scripts."""
    pieces = ["Hello", " world", ",", " 123", "45", " \n", "日", "本"]
    assert tokenize("Hello world, 12345 \n日本") == [piece_number(piece) for piece in pieces]


@given(st.text())
def test_tokenize_takes_any_text(text: str) -> None:
    """Every text has token numbers below the vocabulary's size, and none only where it is empty."""
    tokens = tokenize(text)
    assert all(0 <= token < VOCABULARY for token in tokens)
    assert bool(tokens) == bool(text)


@given(st.integers(-(2**63), 2**63), st.lists(st.integers(0, 2**31), max_size=5), st.integers(0, 127))
def test_an_answer_reads_back_as_its_tokens(seed: int, prompt: list[int], choice: int) -> None:
    """Tokenizing an answer's text gives the numbers that the engine produced."""
    script = Script(seed, prompt, choice)
    assert tokenize(said(script, 40)) == [script.token(i) for i in range(40)]


def test_seed_prompt_and_choice_decide() -> None:
    """The same three give the same answer; any other gives another."""
    text = said(Script(1, [1, 2, 3], 0), 30)
    assert said(Script(1, [1, 2, 3], 0), 30) == text
    assert text not in {said(Script(*other), 30) for other in ((2, [1, 2, 3], 0), (1, [1, 2], 0), (1, [1, 2, 3], 1))}


def test_natural_lengths_have_the_mean() -> None:
    """Over many prompts the mean natural length is the one asked for, within 5 %."""
    lengths = [Script(0, [n]).natural_tokens(200) for n in range(5000)]
    assert 190 < sum(lengths) / len(lengths) < 210
    assert min(lengths) < 50 < 700 < max(lengths)


def test_limit_and_nature_give_the_reason() -> None:
    """Cut off is `length`, ended by itself is `stop`, and an endless one is always cut off."""
    script = Script(0, [1])
    natural = script.natural_tokens(50)
    assert plan_answer(script, limit_tokens=10_000, mean_tokens=50).tokens == natural
    assert plan_answer(script, limit_tokens=10_000, mean_tokens=50).reason is Reason.STOP
    assert plan_answer(script, limit_tokens=natural - 1, mean_tokens=50).reason is Reason.LENGTH
    endless = plan_answer(script, limit_tokens=777, mean_tokens=50, endless=True)
    assert (endless.tokens, endless.reason) == (777, Reason.LENGTH)
    assert plan_answer(script, limit_tokens=10_000, mean_tokens=50, least_tokens=500).tokens == 500


def test_a_stop_text_ends_the_answer_and_is_not_said() -> None:
    """A stop text that spans tokens is cut out, and the tokens up to its end are counted."""
    script = Script(0, [1])
    text = said(script, 12)
    stop = script.text(4)[-1] + script.text(5)[:2]
    answer = plan_answer(script, limit_tokens=50, endless=True, stop=[stop])
    shown = "".join(answer.text(i) for i in range(answer.tokens))
    assert answer.reason is Reason.STOP
    assert shown == text[: text.index(stop)]
    assert answer.tokens <= 6


def test_a_stop_text_waits_for_the_least_tokens() -> None:
    """A stop text that comes before `min_tokens` does not end the answer."""
    script = Script(0, [1])
    early = plan_answer(script, limit_tokens=50, endless=True, stop=[" "])
    late = plan_answer(script, limit_tokens=50, endless=True, stop=[" "], least_tokens=20)
    assert early.tokens < 5
    assert late.tokens >= 20


def test_a_stop_text_that_never_comes_changes_nothing() -> None:
    """Without a match the answer is as if no stop text were given."""
    script = Script(0, [1])
    assert plan_answer(script, limit_tokens=50, stop=["\x00"]) == plan_answer(script, limit_tokens=50)
