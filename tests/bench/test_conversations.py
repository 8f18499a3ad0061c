"""Conversations are varied, the same for the same seed, and of the form that is asked for."""

from collections import Counter

import orjson

from bench.conversations import conversations
from gpubalancer.brain.content import read_content


def test_a_seed_gives_the_same_conversations() -> None:
    """The first of many are those of few; another seed gives others."""
    few = conversations(20, 1, most_bytes=5000)
    assert conversations(30, 1, most_bytes=5000)[:20] == few
    assert conversations(20, 2, most_bytes=5000) != few


def test_every_trait_is_there_often() -> None:
    """Of a thousand conversations each trait is in twenty or more, and some have none that is special."""
    traits = Counter(trait for one in conversations(1000, 1, most_bytes=5000) for trait in one.traits)
    special = ("empty content", "parts", "tools", "calls of tools", "special tokens as text", "blanks at the ends")
    assert set(special) < set(traits)
    assert {"chinese", "arabic", "emoji", "code", "english", "name", "reasoning", "developer"} < set(traits)
    assert min(traits.values()) >= 20
    assert max(traits.values()) < 800


def test_bodies_are_read() -> None:
    """Each is a valid request of 1 to 12 messages; some sizes come near the most that is asked for."""
    sizes = []
    for one in conversations(300, 3, most_bytes=4000):
        body = orjson.loads(orjson.dumps(one.body))
        content = read_content("chat", body)
        assert 1 <= len(content.messages) <= 12
        assert ("tools" in one.traits) == bool(content.tools)
        assert ("calls of tools" in one.traits) == any("tool_calls" in message for message in body["messages"])
        sizes.append(sum(len(text.encode()) for message in content.messages for text in message.texts))
    assert 2000 < max(sizes) < 6000


def test_strict_conversations() -> None:
    """A system prompt at most, then user and assistant in turn, from user to user, and nothing but content."""
    for one in conversations(200, 1, most_bytes=1000, strict=True):
        assert set(one.body) == {"messages"}
        messages = [message for message in one.body["messages"] if message["role"] != "system"]
        assert len(one.body["messages"]) - len(messages) == ("system prompt" in one.traits)
        assert [message["role"] for message in messages] == [("user", "assistant")[n % 2] for n in range(len(messages))]
        assert len(messages) % 2 == 1
        assert all(set(message) == {"role", "content"} for message in one.body["messages"])
