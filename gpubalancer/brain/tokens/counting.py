"""Counting a request's prompt in two steps, so that no text holds the event loop for long.

`plan` renders the prompt into segments and counts what it can at once: what is in the cache, and new text up to the
tokenizer's `loop_bytes`. What is left is in the plan, and the caller, who may wait, has `plan.count_rest()` run in a
thread (quicktok and tokenizers release the interpreter's lock there) and then takes the sum from `plan.finish(counts)`;
or, beyond `thread_bytes`, estimates the texts (`brain/learned.py`).

A conversation grows by a message and is sent whole each time, so counts are kept by a hash of the text: its history is
counted once. The hash is of 64 bits with a seed that clients don't know. A collision costs a wrong estimate, which the
engine's own count corrects. The cache has two generations: when the younger is full, the older is dropped and they
change places. So it is bounded and a hit moves nothing. Threads that write at once lose counts at worst.
"""

from typing import NamedTuple

import xxhash

from gpubalancer.brain.content import Content
from gpubalancer.brain.tokens.media import media_tokens
from gpubalancer.brain.tokens.templates import PLAIN
from gpubalancer.brain.tokens.tokenizer import Family, Rendered, Tokenizer

GENERATION = 16_384
"""Counts in each of the two generations; about 170 bytes each."""


HASHED_CHARS = 1024 * 1024
"""So much text is looked up in the cache; hashing it takes 1 ms, 2 ms where it is not ASCII."""


CALL_BYTES = 16
"""What counting any text costs beside its bytes, in bytes' worth: 0.5 us with quicktok, 5 us with tokenizers."""


class Unread(NamedTuple):
    """A text that is still to be counted."""

    text: str
    times: int = 1
    """How often the engine reads it: a rerank query once for each document."""
    key: int = 0


class Plan(NamedTuple):
    """What is known of a prompt's tokens, and what is not."""

    known_tokens: int
    unread: tuple[Unread, ...] = ()
    counting: "Counting | None" = None
    """What counts the unread texts; None where they can only be estimated: no tokenizer, or too much text."""

    @property
    def texts(self) -> list[tuple[str, int]]:
        """The unread texts and how often the engine reads each, for an estimate (`learned.measure`)."""
        return [(unread.text, unread.times) for unread in self.unread]

    def count_rest(self) -> tuple[int, ...]:
        """Tokens of each unread text. Changes nothing, so it may run in any thread."""
        if self.counting is None:
            return ()
        count = self.counting.tokenizer.count
        return tuple([count(unread.text) for unread in self.unread])

    def finish(self, counts: tuple[int, ...]) -> int:
        """All tokens of the prompt, with what `count_rest` gave; from now on the cache knows its texts."""
        tokens = self.known_tokens
        if self.counting is not None:
            for unread, counted in zip(self.unread, counts, strict=True):
                tokens += counted * unread.times
                self.counting.keep(unread.key, counted)
        return tokens


class Counting:
    """One tokenizer with its cache."""

    def __init__(self, tokenizer: Tokenizer, seed: int) -> None:
        """`seed`: a secret number of 64 bits, new for each process."""
        self.tokenizer = tokenizer
        self._seed = seed
        self._young: dict[int, int] = {}
        self._old: dict[int, int] = {}

    def __repr__(self) -> str:
        return f"Counting({self.tokenizer.name}, {len(self._young) + len(self._old)} cached)"

    def plan(self, content: Content) -> Plan:
        """Count what can be counted at once."""
        rendered = render(content, self.tokenizer)
        known = rendered.tokens + fixed_tokens(content, self.tokenizer.template.family)
        count, cached_chars = self.tokenizer.count, self.tokenizer.cached_chars
        left_bytes, left_chars = self.tokenizer.loop_bytes, HASHED_CHARS
        unread: list[Unread] = []
        times = _query_times(content)
        for text in rendered.segments:
            key, counted, size_bytes = 0, None, len(text)
            if size_bytes >= cached_chars:
                left_chars -= size_bytes
                if left_chars >= 0:
                    data = text.encode("utf-8", "surrogatepass")
                    key, size_bytes = xxhash.xxh3_64_intdigest(data, self._seed), len(data)
                    counted = self._cached(key)
            if counted is None and left_bytes >= size_bytes:
                left_bytes -= size_bytes + CALL_BYTES
                counted = count(text)
                self.keep(key, counted)
            if counted is None:
                unread.append(Unread(text, times, key))
            else:
                known += counted * times
            times = 1
        if not unread:
            return Plan(known)
        # Characters stand for bytes here: the limit is a round one.
        few = sum([len(each.text) for each in unread]) <= self.tokenizer.thread_bytes
        return Plan(known, tuple(unread), self if few else None)

    def _cached(self, key: int) -> int | None:
        counted = self._young.get(key)
        if counted is None:
            counted = self._old.get(key)
            if counted is not None:
                self.keep(key, counted)
        return counted

    def keep(self, key: int, counted: int) -> None:
        """Remember the tokens of the text with this hash; 0 for a text that is not to be remembered."""
        if not key:
            return
        if len(self._young) >= GENERATION:
            self._old, self._young = self._young, {}
        self._young[key] = counted


def render(content: Content, tokenizer: Tokenizer) -> Rendered:
    """A conversation by its template; prompts of other APIs as they are, each with what the engine puts around it."""
    if content.conversation:
        return tokenizer.template.render(content)
    segments = [text for message in content.messages for text in message.texts]
    return Rendered([*segments, *content.tools], tokenizer.per_text * content.inputs)


def unknown_plan(content: Content, family: Family = "other") -> Plan:
    """The plan of a model without a tokenizer: everything is to be estimated."""
    rendered = PLAIN.render(content)
    tokens = rendered.tokens if content.conversation else 0
    times = _query_times(content)
    unread = [Unread(text, times if index == 0 else 1) for index, text in enumerate(rendered.segments)]
    return Plan(tokens + fixed_tokens(content, family), tuple(unread))


def fixed_tokens(content: Content, family: Family) -> int:
    """Token ids, images and sound."""
    tokens = content.token_ids
    for message in content.messages:
        if message.media:
            tokens += media_tokens(message.media, "anthropic" if content.api == "messages" else family)
    return tokens


def _query_times(content: Content) -> int:
    """How often the first segment is read: a rerank engine reads the query with each document."""
    return content.inputs if content.api == "rerank" else 1
