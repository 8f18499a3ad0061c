"""Tokens of texts are learned from reports, by kind of letter, and survive lies and restarts."""

import base64
import json
import random
import statistics
import sysconfig
import time
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpubalancer.brain.learned import KEYS_LIMIT, PRIORS, Extent, TextTokens, measure
from gpubalancer.brain.tokens.vocabularies import load
from tests.brain.tokens.texts import TEXTS, worst

PROSE = "\n".join(topics.values())
CODE = "".join((Path(sysconfig.get_paths()["stdlib"]) / name).read_text() for name in ("argparse.py", "ast.py"))
KINDS = tuple(PRIORS)
EXTENTS = st.builds(Extent, *[st.floats(0, 1e9)] * len(PRIORS))


def once(*texts: str) -> list[tuple[str, int]]:
    """Texts that are read once each."""
    return [(text, 1) for text in texts]


def request(rng: random.Random) -> list[str]:
    """The texts of one request: mostly prose, some code, other scripts, data."""
    texts = []
    for _ in range(rng.randint(1, 3)):
        size = int(10 ** rng.uniform(2, 3.8))
        source = rng.choices((PROSE, CODE, rng.choice(list(TEXTS.values())), None), (55, 25, 12, 8))[0]
        if source is None:
            texts.append(base64.b64encode(rng.randbytes(size)).decode())
        else:
            start = rng.randrange(max(len(source) - size, 1))
            texts.append(source[start : start + size])
    return texts


@pytest.mark.parametrize("truth", ["cl100k_base", "llama3", "qwen3"])
def test_an_unknown_tokenizer_is_learned(truth: str) -> None:
    """After 200 varied requests the next 300 are estimated within 7 % at the median."""
    count, rng, learned, errors = load(truth).count, random.Random(1), TextTokens(), []
    for number in range(500):
        texts = request(rng)
        extent, tokens = measure(once(*texts)), sum(map(count, texts))
        if number >= 200 and tokens:
            errors.append(abs(learned.tokens("m", "acme", extent) / tokens - 1))
        learned.learn("m", "acme", extent, tokens)
    assert statistics.median(errors) < 0.07
    assert sorted(errors)[int(0.9 * len(errors))] < 0.25


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("english", "letters"), ("capitals", "capitals"), ("base64", "dense"), ("random letters", "dense"),
        ("digits", "digits"), ("spaces", "blanks"), ("newlines", "breaks"), ("punctuation", "signs"),
        ("vietnamese taken apart", "letters"), ("russian", "cyrillic"), ("greek", "cyrillic"), ("arabic", "semitic"),
        ("hebrew", "semitic"), ("hindi", "indic"), ("thai", "indic"), ("japanese", "kana"), ("chinese", "han"),
        ("korean", "hangul"), ("emoji", "emoji"), ("mixed blanks", "breaks"),
    ],
)  # fmt: skip
def test_kinds(name: str, kind: str) -> None:
    """Most of a text is letters of its script."""
    amounts = measure(once(TEXTS[name]))._asdict()
    assert amounts.pop("texts") == 1
    assert max(amounts, key=lambda each: amounts[each]) == kind


def test_a_measure() -> None:
    """Each character is of one kind."""
    extent = measure(once("A b1!\n\u00e9\u0436\u05d0\u0905\u30ab\u4e2d\ud55c\u20ac\U0001f600"))
    assert extent == Extent(**{**dict.fromkeys(KINDS, 1.0), "dense": 0.0})


def test_words_and_what_has_none() -> None:
    """Latin letters are dense where many stand together, whatever their case, but a single word is a word."""
    assert measure(once("Hello", "pneumonoultramicroscopic")).dense == 0
    assert measure(once("aB" * 40 + "1+" * 3)) == Extent(dense=80, digits=3, signs=3, texts=1)
    assert measure(once("\u4e2d" + "word\u4e2d" * 40)).dense == 0


@given(st.lists(st.text(max_size=300), max_size=5))
def test_small_texts_are_measured_exactly(texts: list[str]) -> None:
    """All characters of all texts are in one kind or another."""
    assert sum(measure(once(*texts))) == sum(map(len, texts)) + len(texts)


def test_large_texts_are_measured_by_slices() -> None:
    """Ten megabytes are measured in no time, all their characters counted."""
    for kind in ("chinese", "emoji", "base64"):
        text = worst(kind, 10_000_000)
        start_s = time.thread_time()
        extent = measure(once(text))
        assert time.thread_time() - start_s < 0.005
        assert sum(extent) == pytest.approx(len(text) + 1)
        assert extent[KINDS.index({"chinese": "han", "base64": "dense"}.get(kind, kind))] > 0.3 * len(text)


def test_many_texts_are_measured_in_time() -> None:
    """As many texts as a body on the event loop can hold take less than 5 ms, and all their characters are counted."""
    for text in ("a", "two words", "\u4e2d\u6587", "word " * 30):
        texts = once(*[text] * 1900)
        best_s = 1.0
        for _ in range(3):
            start_s = time.thread_time()
            extent = measure(texts)
            best_s = min(best_s, time.thread_time() - start_s)
        assert best_s < 0.005
        assert sum(extent) == 1900 * (len(text) + 1)


def test_a_text_that_is_read_often() -> None:
    """A rerank query counts with each document."""
    extent = measure([("some words here", 1000), *once(*["a b"] * 1000)])
    expected = Extent(letters=13_000 + 2_000, blanks=2_000 + 1_000, texts=2_000)
    assert extent == pytest.approx(expected, rel=0.001)


def test_before_anything_is_known() -> None:
    """A token for about five letters of words, for two of what has none."""
    learned = TextTokens()
    assert learned.tokens("m", "t", Extent(letters=400)) == 80
    assert learned.tokens("m", "t", Extent(dense=400)) > 200
    assert learned.tokens("m", "t", Extent()) == 0


def test_a_new_tenant_starts_from_the_model() -> None:
    """What one tenant's requests have shown of a model serves the next tenant; another model is unknown."""
    learned, extent = TextTokens(), Extent(letters=6000)
    for _ in range(60):
        learned.learn("m", "one", extent, 1000)
    assert learned.tokens("m", "two", extent) == pytest.approx(1000, rel=0.05)
    assert learned.tokens("n", "one", extent) == 1200


def test_kinds_are_learned_apart() -> None:
    """What is learned from Chinese does not change the estimate for English."""
    learned = TextTokens()
    for _ in range(60):
        learned.learn("m", "t", Extent(han=6000), 3000)
    assert learned.tokens("m", "t", Extent(letters=5000)) == 1000
    assert learned.tokens("m", "t", Extent(han=6000)) == pytest.approx(3000, rel=0.05)


def test_what_stands_around_each_text_is_learned() -> None:
    """A template of 12 tokens a message is told from the texts in it, of which some conversations have many."""
    learned, rng = TextTokens(), random.Random(1)
    for _ in range(200):
        texts, letters = rng.randint(1, 12), rng.randint(20, 2000)
        learned.learn("m", "t", Extent(letters=letters, texts=texts), round(letters / 4 + 12 * texts))
    assert learned.tokens("m", "t", Extent(letters=40, texts=10)) == pytest.approx(130, rel=0.1)
    assert learned.tokens("m", "t", Extent(letters=4000, texts=1)) == pytest.approx(1012, rel=0.05)


def test_a_change_is_followed() -> None:
    """A model that is replaced by one with another vocabulary is known again within 100 requests."""
    learned, extent = TextTokens(), Extent(letters=6000)
    for _ in range(1000):
        learned.learn("m", "t", extent, 1500)
    for _ in range(100):
        learned.learn("m", "t", extent, 1000)
    assert learned.tokens("m", "t", extent) == pytest.approx(1000, rel=0.05)


def test_one_lie_changes_little() -> None:
    """A report a million times too large moves a learned rate by less than 5 %."""
    learned, extent = TextTokens(), Extent(letters=6000)
    for _ in range(100):
        learned.learn("m", "t", extent, 1500)
    learned.learn("m", "t", extent, 10**12)
    assert learned.tokens("m", "t", extent) == pytest.approx(1500, rel=0.05)


@given(st.lists(st.tuples(EXTENTS, st.integers(-5, 10**15)), max_size=40), EXTENTS)
def test_lies_stay_in_bounds(reports: list[tuple[Extent, int]], extent: Extent) -> None:
    """Whatever is reported, an estimate is between a sixteenth of the first one and four tokens for each character."""
    learned = TextTokens()
    for reported, tokens in reports:
        learned.learn("m", "t", reported, tokens)
    least = sum(amount * rate for amount, rate in zip(extent, PRIORS.values(), strict=True)) / 16
    characters = sum(extent) - extent.texts
    tokens = learned.tokens("m", "t", extent)
    assert least * 0.999 - 4 * extent.texts - 1 <= tokens <= (4 * characters + 64 * extent.texts) * 1.001 + 1


def test_memory_is_bounded() -> None:
    """The keys that were used longest ago are forgotten."""
    learned = TextTokens()
    for number in range(KEYS_LIMIT + 100):
        learned.learn("m", f"tenant-{number}", Extent(letters=6000), 1000)
    assert repr(learned) == f"TextTokens({KEYS_LIMIT} keys)"
    assert ["m", f"tenant-{KEYS_LIMIT + 99}"] in [row[:2] for row in learned.to_state()["rows"]]
    assert ["m", ""] in [row[:2] for row in learned.to_state()["rows"]]


def test_state_survives_a_restart() -> None:
    """What was learned is the same after it was written as JSON and read."""
    learned, rng = TextTokens(), random.Random(2)
    for _ in range(30):
        extent = measure(once(*request(rng)))
        learned.learn(rng.choice("mn"), rng.choice("tu"), extent, int(sum(extent) / 3))
    state = json.loads(json.dumps(learned.to_state()))
    assert TextTokens.from_state(state).to_state() == learned.to_state()


N = len(KINDS)
GOOD = ["m", "t", [0.5] * N, [0.03] * N]


@pytest.mark.parametrize(
    "row",
    [
        None, [], ["m", "t"], ["m", 1, [0.5] * N, [0.1] * N], ["m", "t", [0.5] * (N - 1), [0.1] * N],
        ["m", "t", ["4"] * N, [0.1] * N], ["m", "t", [float("nan")] * N, [0.1] * N],
        ["m", "t", [float("inf")] * N, [0.1] * N], ["m", "t", [10**400] * N, [0.1] * N],
        ["m", "t", [True] * N, [1] * N],
    ],
)  # fmt: skip
def test_broken_rows_are_left_out(row: object) -> None:
    """A damaged row costs what it held, not the start."""
    learned = TextTokens.from_state({"kinds": list(KINDS), "rows": [row, GOOD]})
    (kept,) = learned.to_state()["rows"]
    assert kept[:3] == GOOD[:3]


@pytest.mark.parametrize(
    "state", [None, [], {}, {"kinds": ["other"], "rows": [GOOD]}, {"kinds": list(KINDS), "rows": 1}]
)
def test_foreign_states_are_left_out(state: Any) -> None:
    """A state of other kinds, or none, is a new start."""
    assert TextTokens.from_state(state).to_state()["rows"] == []


def test_stored_rates_are_bounded() -> None:
    """A state can't hold a rate that learning could not reach."""
    learned = TextTokens.from_state({"kinds": list(KINDS), "rows": [["m", "t", [99.0] * N, [-1.0] * N]]})
    assert learned.tokens("m", "t", Extent(letters=100)) == 400
    assert learned.tokens("m", "t", Extent(texts=10)) == 640
