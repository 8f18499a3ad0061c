"""Counting in two steps: exact, once for each text, and never long at once."""

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from gpubalancer.brain.content import LOOP_BYTES, Content, read_content
from gpubalancer.brain.tokens import counting as module
from gpubalancer.brain.tokens.counting import Counting, Plan, unknown_plan
from gpubalancer.brain.tokens.templates import PLAIN
from gpubalancer.brain.tokens.tokenizer import Tokenizer
from gpubalancer.brain.tokens.vocabularies import load
from tests.brain.tokens.texts import TEXTS, WORST, worst


class Words:
    """A tokenizer of blanks that notes what it was given."""

    def __init__(self) -> None:
        self.given: list[str] = []

    def count(self, text: str) -> int:
        """Words of a text."""
        self.given.append(text)
        return len(text.split())

    def tokenizer(self, loop_bytes: int = 100, thread_bytes: int = 1000, cached_chars: int = 5) -> Tokenizer:
        """It, as a tokenizer."""
        return Tokenizer("words", self.count, lambda _: [], PLAIN, loop_bytes, thread_bytes, cached_chars, per_text=1)


def chat(*texts: str, **fields: Any) -> Content:
    """A conversation."""
    return read_content("chat", {"messages": [{"role": "user", "content": text} for text in texts], **fields})


def total(plan: Plan) -> int:
    """All tokens, counted."""
    return plan.finish(plan.count_rest())


def test_a_history_is_counted_once() -> None:
    """When a conversation grows by a message, only that message is tokenized."""
    words = Words()
    counting = Counting(words.tokenizer(), 1)
    assert counting.plan(chat("one two three")).known_tokens == 3 + 7
    assert counting.plan(chat("one two three", "four five six")).known_tokens == 6 + 11
    assert words.given == ["one two three", "four five six"]


def test_short_texts_are_counted_straight() -> None:
    """What is counted faster than looked up is not kept."""
    words = Words()
    counting = Counting(words.tokenizer(), 1)
    for _ in range(2):
        counting.plan(chat("a b"))
    assert words.given == ["a b", "a b"]
    assert repr(counting) == "Counting(words, 0 cached)"


def test_what_is_too_much_for_the_loop_is_left() -> None:
    """New text beyond `loop_bytes` is left to a thread, and from then on known."""
    counting = Counting(Words().tokenizer(), 1)
    first, second = "word " * 15, "more " * 15
    plan = counting.plan(chat(first, second))
    assert plan.known_tokens == 15 + 11
    assert plan.texts == [(second, 1)]
    assert plan.counting is counting
    assert total(plan) == 30 + 11
    assert counting.plan(chat(first, second)) == Plan(41)


def test_short_texts_use_up_the_loops_share_too() -> None:
    """Thousands of short texts are left to a thread as one long text is."""
    plan = Counting(Words().tokenizer(), 1).plan(chat(*["a b"] * 100))
    assert len(plan.unread) == 100 - 6
    assert total(plan) == 200 + 403


def test_what_is_too_much_for_a_thread_is_to_be_estimated() -> None:
    """Beyond `thread_bytes` nothing counts the rest."""
    text = "word " * 300
    plan = Counting(Words().tokenizer(), 1).plan(chat(text))
    assert (plan.texts, plan.counting, plan.count_rest()) == ([(text, 1)], None, ())
    assert plan.finish(()) == plan.known_tokens == 7


def test_bytes_count_not_letters() -> None:
    """A text of three bytes a letter is as much as it has bytes."""
    assert Counting(Words().tokenizer(), 1).plan(chat("\u4e2d" * 50)).unread


def test_the_cache_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many texts come, two generations are kept, and a text in use stays."""
    monkeypatch.setattr(module, "GENERATION", 10)
    words = Words()
    counting = Counting(words.tokenizer(), 1)
    for number in range(200):
        counting.plan(chat(f"text number {number}", "in every request"))
    assert len(counting._young) + len(counting._old) <= 20
    assert words.given.count("in every request") == 1


def test_two_seeds_hash_apart() -> None:
    """What a text is remembered by can't be guessed without the process's seed."""
    one, two = Counting(Words().tokenizer(), 1), Counting(Words().tokenizer(), 2)
    one.plan(chat("one two three"))
    two.plan(chat("one two three"))
    assert one._young.keys() != two._young.keys()


def test_rerank_reads_the_query_with_each_document() -> None:
    """A query counts once for each document, also where it is counted in a thread."""
    body = {"query": "two words", "documents": ["a", "b c", "d"]}
    assert Counting(Words().tokenizer(), 1).plan(read_content("rerank", body)).known_tokens == 2 * 3 + 4 + 3
    plan = Counting(Words().tokenizer(loop_bytes=0), 1).plan(read_content("rerank", body))
    assert total(plan) == 13
    assert plan.texts == [("two words", 3), ("a", 1), ("b c", 1), ("d", 1)]


def test_token_ids_tools_and_media() -> None:
    """Everything that is not text is added."""
    counting = Counting(Words().tokenizer(), 1)
    assert counting.plan(read_content("completions", {"prompt": [[1, 2, 3], [4]]})).known_tokens == 4 + 2
    picture = {"type": "image_url", "image_url": {"url": "https://127.0.0.1/a.png"}}
    body = {"messages": [{"role": "user", "content": [picture]}]}
    assert counting.plan(read_content("chat", body)).known_tokens > 1000
    assert counting.plan(chat("a", tools=[{"a": "b c"}])).known_tokens == 1 + 7 + 2 + 19


def test_without_a_tokenizer_everything_is_to_be_estimated() -> None:
    """The plan has all texts and what is known without one."""
    plan = unknown_plan(chat("one", "two"))
    assert (plan.known_tokens, plan.texts, plan.counting) == (11, [("one", 1), ("two", 1)], None)
    assert unknown_plan(read_content("completions", {"prompt": "one"})).known_tokens == 0


@pytest.mark.parametrize("name", ["gpt-4o", "llama3.1", "qwen3"])
def test_the_sum_does_not_depend_on_where_it_is_counted(name: str) -> None:
    """On the loop, in a thread, from the cache: always the same number."""
    content = chat(*TEXTS.values(), "long " * 20_000)
    counting = Counting(load(name), 1)
    plan = counting.plan(content)
    assert plan.unread
    found: list[int] = []
    threads = [threading.Thread(target=lambda: found.append(sum(plan.count_rest()))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 1
    assert total(plan) == plan.known_tokens + found[0]
    assert counting.plan(content).known_tokens == total(plan)


def fastest_s(act: Callable[[], object], rounds: int = 5) -> float:
    """CPU of the fastest of some calls."""
    best_s = 10.0
    for _ in range(rounds):
        start_s = time.thread_time()
        act()
        best_s = min(best_s, time.thread_time() - start_s)
    return best_s


@pytest.mark.parametrize("kind", WORST)
@pytest.mark.parametrize("name", ["gpt-4o", "llama3", "qwen3"])
def test_no_text_holds_the_loop(name: str, kind: str) -> None:
    """Planning a request of a megabyte of the worst text, in one message or in many, takes less than 5 ms."""
    tokenizer = load(name)
    whole = worst(kind, LOOP_BYTES)[: LOOP_BYTES - 1000]
    many = [whole[start : start + 8000] for start in range(0, len(whole), 8000)]
    for texts in ([whole], many):
        content = chat(*texts)
        assert fastest_s(lambda content=content: Counting(tokenizer, 1).plan(content)) < 0.005  # type: ignore[misc]


def test_a_kept_conversation_is_looked_up_in_no_time() -> None:
    """A megabyte that is in the cache costs its hash."""
    counting = Counting(load("gpt-4o"), 1)
    content = chat(*[f"{number} " * 1500 for number in range(130)])
    total(counting.plan(content))
    assert not counting.plan(content).unread
    assert fastest_s(lambda: counting.plan(content)) < 0.005


@pytest.mark.parametrize("name", ["gpt-4o", "llama3.1", "qwen3"])
def test_no_number_of_messages_holds_the_loop(name: str) -> None:
    """As many short messages as a body on the event loop can hold are planned in less than 5 ms."""
    content, tokenizer = chat(*[f"a {number}" for number in range(1300)]), load(name)
    assert fastest_s(lambda: Counting(tokenizer, 1).plan(content)) < 0.005
