"""Bytes per token are learned from reports, by kind of text, and survive lies and restarts."""

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

from gpubalancer.brain.learned import KEYS_LIMIT, PRIORS, BytesPerToken, Extent, measure
from gpubalancer.brain.tokens.vocabularies import load
from tests.brain.tokens.texts import TEXTS, worst

PROSE = "\n".join(topics.values())
CODE = "".join((Path(sysconfig.get_paths()["stdlib"]) / name).read_text() for name in ("argparse.py", "ast.py"))
KINDS = tuple(PRIORS)


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
    """After 200 varied requests the next 300 are estimated within 10 % at the median."""
    count, rng, learned, errors = load(truth).count, random.Random(1), BytesPerToken(), []
    for number in range(500):
        texts = request(rng)
        extent, tokens = measure(once(*texts)), sum(map(count, texts))
        if number >= 200 and tokens:
            errors.append(abs(learned.tokens("m", "acme", extent) / tokens - 1))
        learned.learn("m", "acme", extent, tokens)
    assert statistics.median(errors) < 0.10
    assert sorted(errors)[int(0.9 * len(errors))] < 0.35


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("english", "words"), ("german", "words"), ("french", "words"), ("code", "code"), ("log", "code"),
        ("base64", "dense"), ("hexadecimal", "dense"), ("random letters", "dense"), ("digits", "dense"),
        ("russian", "letters"), ("arabic", "letters"), ("hebrew", "letters"), ("greek", "letters"),
        ("chinese", "wide"), ("japanese", "wide"), ("korean", "wide"), ("thai", "wide"), ("emoji", "wide"),
    ],
)  # fmt: skip
def test_kinds(name: str, kind: str) -> None:
    """A text's kind is told by its letters, blanks and signs, and its bytes are counted."""
    extent = measure(once(TEXTS[name]))
    assert extent._asdict() == {**dict.fromkeys(KINDS, 0), kind: len(TEXTS[name].encode())}


@given(st.lists(st.text(max_size=300), max_size=5))
def test_small_texts_are_measured_exactly(texts: list[str]) -> None:
    """All bytes of all texts are in one kind or another."""
    assert sum(measure(once(*texts))) == sum(len(text.encode()) for text in texts)


def test_large_texts_are_measured_by_slices() -> None:
    """Ten megabytes are measured in no time, right within a few per cent."""
    for kind in ("chinese", "emoji", "base64"):
        text = worst(kind, 10_000_000)
        start_s = time.thread_time()
        extent = measure(once(text))
        assert time.thread_time() - start_s < 0.005
        assert sum(extent) == pytest.approx(len(text.encode()), rel=0.05)


def test_many_texts_are_measured_in_time() -> None:
    """As many texts as a body on the event loop can hold take less than 5 ms, and all their bytes are counted."""
    for text in ("a", "two words", "\u4e2d\u6587", "word " * 30):
        texts = once(*[text] * 1900)
        best_s = 1.0
        for _ in range(3):
            start_s = time.thread_time()
            extent = measure(texts)
            best_s = min(best_s, time.thread_time() - start_s)
        assert best_s < 0.005
        assert sum(extent) == 1900 * len(text.encode())


def test_a_text_that_is_read_often() -> None:
    """A rerank query counts with each document."""
    assert measure([("some words here", 1000), *once(*["a b"] * 1000)]).words == 15_000 + 3_000


def test_before_anything_is_known() -> None:
    """4 bytes a token for words, fewer for what has none."""
    learned = BytesPerToken()
    assert learned.tokens("m", "t", Extent(words=400)) == 100
    assert learned.tokens("m", "t", Extent(dense=400)) > 200
    assert learned.tokens("m", "t", Extent()) == 0


def test_a_new_tenant_starts_from_the_model() -> None:
    """What one tenant's requests have shown of a model serves the next tenant; another model is unknown."""
    learned, extent = BytesPerToken(), Extent(words=6000)
    for _ in range(60):
        learned.learn("m", "one", extent, 1000)
    assert learned.tokens("m", "two", extent) == pytest.approx(1000, rel=0.05)
    assert learned.tokens("n", "one", extent) == 1500


def test_kinds_are_learned_apart() -> None:
    """What is learned from Chinese does not change the estimate for English."""
    learned = BytesPerToken()
    for _ in range(60):
        learned.learn("m", "t", Extent(wide=6000), 3000)
    assert learned.tokens("m", "t", Extent(words=4000)) == 1000
    assert learned.tokens("m", "t", Extent(wide=6000)) == pytest.approx(3000, rel=0.05)


def test_a_change_is_followed() -> None:
    """A model that is replaced by one with another vocabulary is known again within 100 requests."""
    learned, extent = BytesPerToken(), Extent(words=6000)
    for _ in range(1000):
        learned.learn("m", "t", extent, 1500)
    for _ in range(100):
        learned.learn("m", "t", extent, 1000)
    assert learned.tokens("m", "t", extent) == pytest.approx(1000, rel=0.05)


def test_one_lie_changes_little() -> None:
    """A report a million times too large moves a learned ratio by less than 5 %."""
    learned, extent = BytesPerToken(), Extent(words=6000)
    for _ in range(100):
        learned.learn("m", "t", extent, 1500)
    learned.learn("m", "t", extent, 10**12)
    assert learned.tokens("m", "t", extent) == pytest.approx(1500, rel=0.05)


@given(
    st.lists(st.tuples(st.builds(Extent, *[st.floats(0, 1e9)] * 5), st.integers(-5, 10**15)), max_size=40),
    st.builds(Extent, *[st.floats(0, 1e9)] * 5),
)
def test_lies_stay_in_bounds(reports: list[tuple[Extent, int]], extent: Extent) -> None:
    """Whatever is reported, an estimate is between a token for 16 bytes and two for each."""
    learned = BytesPerToken()
    for reported, tokens in reports:
        learned.learn("m", "t", reported, tokens)
    size_bytes = sum(extent)
    assert size_bytes / 16 - 1 <= learned.tokens("m", "t", extent) <= size_bytes * 2 + 1


def test_memory_is_bounded() -> None:
    """The keys that were used longest ago are forgotten."""
    learned = BytesPerToken()
    for number in range(KEYS_LIMIT + 100):
        learned.learn("m", f"tenant-{number}", Extent(words=6000), 1000)
    assert repr(learned) == f"BytesPerToken({KEYS_LIMIT} keys)"
    assert ["m", f"tenant-{KEYS_LIMIT + 99}"] in [row[:2] for row in learned.to_state()["rows"]]
    assert ["m", ""] in [row[:2] for row in learned.to_state()["rows"]]


def test_state_survives_a_restart() -> None:
    """What was learned is the same after it was written as JSON and read."""
    learned, rng = BytesPerToken(), random.Random(2)
    for _ in range(30):
        extent = measure(once(*request(rng)))
        learned.learn(rng.choice("mn"), rng.choice("tu"), extent, int(sum(extent) / 3))
    state = json.loads(json.dumps(learned.to_state()))
    assert BytesPerToken.from_state(state).to_state() == learned.to_state()


GOOD = ["m", "t", [4.0] * 5, [1.0] * 5]


@pytest.mark.parametrize(
    "row",
    [
        None, [], ["m", "t"], ["m", 1, [4.0] * 5, [1.0] * 5], ["m", "t", [4.0] * 4, [1.0] * 5],
        ["m", "t", ["4"] * 5, [1.0] * 5], ["m", "t", [float("nan")] * 5, [1.0] * 5],
        ["m", "t", [float("inf")] * 5, [1.0] * 5], ["m", "t", [10**400] * 5, [1.0] * 5],
        ["m", "t", [True] * 5, [1] * 5],
    ],
)  # fmt: skip
def test_broken_rows_are_left_out(row: object) -> None:
    """A damaged row costs what it held, not the start."""
    learned = BytesPerToken.from_state({"kinds": list(KINDS), "rows": [row, GOOD]})
    assert learned.to_state()["rows"] == [GOOD]


@pytest.mark.parametrize(
    "state", [None, [], {}, {"kinds": ["other"], "rows": [GOOD]}, {"kinds": list(KINDS), "rows": 1}]
)
def test_foreign_states_are_left_out(state: Any) -> None:
    """A state of other kinds, or none, is a new start."""
    assert BytesPerToken.from_state(state).to_state()["rows"] == []


def test_stored_ratios_are_bounded() -> None:
    """A state can't hold a ratio that learning could not reach."""
    learned = BytesPerToken.from_state({"kinds": list(KINDS), "rows": [["m", "t", [0.0] * 5, [-1.0] * 5]]})
    assert learned.tokens("m", "t", Extent(words=100)) == 200
