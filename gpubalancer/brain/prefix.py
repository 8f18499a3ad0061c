"""Which backends have read a prompt's beginning before, and what that spares them.

A prompt's text is cut at *ends*, and each beginning up to one has a 64-bit hash for its name: equal names, equal
beginnings. Where an answer has begun, its backend is entered under all of them (`board/prefixes.py`); a later prompt
looks its own names up. Hashing starts from a salt of table, tenant and model, so that no name of one tenant or model is
ever one of another's.

Two kinds of ends. *Blocks* of 256 bytes, about 64 tokens, and from 1 KiB on blocks that grow with the text, two to each
doubling: they find what is shared inside a message to a sixth on average, and their number grows with the logarithm of
a prompt's length only. *Messages*: the first one's end, where a system prompt is over, and those of the last three,
where the prompt before ended in a conversation that goes on. They are exact.

An engine may keep no prefixes, or forget them sooner than we do, or hold the answers too. So what the table foresees is
multiplied by what the backend was seen to do: tokens reported as cached, by tokens foreseen.
"""

import math
from bisect import bisect_right
from collections.abc import Sequence
from typing import NamedTuple

import xxhash

from gpubalancer.brain.content import Content
from gpubalancer.brain.content_parts import Message
from gpubalancer.brain.tokens.media import media_tokens
from gpubalancer.domain.work import Prefix

BLOCK_BYTES = 256
_FEW_MESSAGES, _LAST_MESSAGES = 2, 3
BYTES_PER_TOKEN = 4
"""Of English text; for what images weigh against it."""
SESSION_SHARE = 0.5
"""Of a prompt that can't be read, what is taken for the part that its session has sent before."""
ADAPTER_LOAD_S = 0.5
"""What a backend costs more that must load an adapter first. Chosen: a LoRA of an 8B model has 50 to 200 MB, which come
off a disk in 0.1 to 1 s."""
TRUST_TOKENS, KEPT_TOKENS = 2_000.0, 40_000.0
"""A conversation or two in which a backend is believed, and some dozens of them that are remembered: an engine without
a prefix cache has a share of a quarter after three answers that foresaw 2,000 tokens each."""
MOST_SHARE = 1.5
"""Engines hold their own answers too, which the table does not know; more than that is another reason."""
GENERATING = frozenset(("chat", "completions", "responses", "messages", "ollama"))
"""APIs whose engines keep what they have read. An embedding's prompt is read once and let go."""


COARSE_ENDS = tuple(BLOCK_BYTES << power for power in range(13))
"""256, 512, 1 Ki and so on to 1 Mi."""
FINE_ENDS = tuple(sorted((*COARSE_ENDS, *(end * 3 // 2 for end in COARSE_ENDS[1:]))))
"""256, 512, 768, 1 Ki, 1.5 Ki, 2 Ki, 3 Ki, 4 Ki and so on."""


def salt_of(table_salt: int, tenant: str | None, model: str | None) -> int:
    """What a chain begins with; of `None` for the tenant, for all tenants alike."""
    owner = b"" if tenant is None else b"\0" + tenant.encode()
    return xxhash.xxh3_64_intdigest((model or "").encode() + owner, table_salt)


def adapter_of(table_salt: int, model: str) -> int:
    """The name under which backends are entered that have an adapter loaded. Prompts' names are of other salts."""
    return xxhash.xxh3_64_intdigest(b"\0adapter\0" + model.encode(), table_salt)


def prefix_of(content: Content, salt: int, session: int = 0) -> Prefix | None:
    """The beginnings of a prompt; None where none is worth a name.

    Roles are left out: who says the same in the same order is the same. Images and sound are not read here, nor token
    numbers, and two of them are not one: from there on it is the session that tells.

    Arguments:
        content: what was asked.
        salt: of `salt_of`.
        session: hash of what the requests of one session share; 0 for none.
    """
    return with_session(beginnings_of(content, salt), salt, session)


class Beginnings(NamedTuple):
    """What `prefix_of` finds in the text itself."""

    names: tuple[int, ...]
    ends_bytes: tuple[int, ...]
    read_bytes: int
    unread_bytes: int
    """About what images, sound and token numbers are worth."""


def beginnings_of(content: Content, salt: int) -> Beginnings | None:
    """The first half of `prefix_of`, for where the session is not known; None where a prompt's prefix is of no use."""
    if content.inputs != 1 or content.api not in GENERATING:
        return None
    messages, unread_bytes = _before_media(content.messages)
    unread_bytes += BYTES_PER_TOKEN * content.token_ids
    pieces = _pieces(content.tools, messages)
    data = b"".join(pieces)
    names, ends = _named(data, pieces, FINE_ENDS if len(messages) <= _FEW_MESSAGES else COARSE_ENDS, salt)
    return Beginnings(tuple(names), tuple(ends), len(data), unread_bytes)


def with_session(found: Beginnings | None, salt: int, session: int) -> Prefix | None:
    """The second half: behind what can be read, the session has a name of its own."""
    if found is None:
        return None
    names, ends_bytes, read_bytes, unread_bytes = found
    if unread_bytes and session:
        names += (xxhash.xxh3_64_intdigest(session.to_bytes(8, "little"), salt),)
        ends_bytes += (max(read_bytes, int(SESSION_SHARE * (read_bytes + unread_bytes))),)
    return Prefix(names, ends_bytes, read_bytes + unread_bytes) if names else None


def _named(data: bytes, pieces: Sequence[bytes], blocks: Sequence[int], salt: int) -> tuple[list[int], list[int]]:
    """Names of a text's beginnings, and where they end."""
    marks, at = [], 0
    for piece in pieces:
        at += len(piece)
        if at >= BLOCK_BYTES:
            marks.append(at)
    ends = sorted((*blocks[: bisect_right(blocks, len(data))], *marks))
    digest, names, start = xxhash.xxh3_64(seed=salt), [], 0
    for end in ends:
        digest.update(data[start:end])
        names.append(digest.intdigest())
        start = end
    return names, ends


def _pieces(tools: Sequence[str], messages: Sequence[Message]) -> list[bytes]:
    """The text, cut where messages end that matter. Engines' templates write tools before all messages."""
    if len(messages) == 1 and not tools:
        return [_encoded(messages[0].texts)]
    rest = max(1, len(messages) - _LAST_MESSAGES)
    pieces = [_encoded((*tools, *messages[0].texts))] if messages else [_encoded(tools)]
    if rest > 1:
        pieces.append(_encoded([text for message in messages[1:rest] for text in message.texts]))
    return pieces + [_encoded(message.texts) for message in messages[rest:]]


def _encoded(texts: Sequence[str]) -> bytes:
    # A lone half of a character may come out of JSON; it needs a hash, not an error.
    return "\0".join((*texts, "")).encode("utf-8", "surrogatepass")


def _before_media(messages: Sequence[Message]) -> tuple[Sequence[Message], int]:
    """The messages before the first with an image or sound, and about how many bytes the rest is worth."""
    for at, message in enumerate(messages):
        if message.media:
            rest = messages[at:]
            tokens = sum([media_tokens(each.media, "other") for each in rest])
            text_bytes = sum([len(text) for each in rest for text in each.texts])
            return messages[:at], text_bytes + BYTES_PER_TOKEN * tokens
    return messages, 0


class CacheShares:
    """By backend, how much of what is foreseen as cached its engine then reports as cached.

    Sums of both, in tokens, that forget: `KEPT_TOKENS` of the past, and `TRUST_TOKENS` of trust to begin with.
    """

    def __init__(self) -> None:
        self._sums: dict[str, list[float]] = {}

    def share(self, backend: str) -> float:
        """Reported over foreseen, 0 to `MOST_SHARE`; 1 for a backend of which nothing is known."""
        sums = self._sums.get(backend)
        return 1.0 if sums is None else min(MOST_SHARE, sums[0] / sums[1])

    def learn(self, backend: str, foreseen_tokens: float, reported_tokens: float) -> None:
        """Take in one answer.

        Arguments:
            backend: that gave it.
            foreseen_tokens: of its prompt by the table alone, without any share; nothing is learned from 0.
            reported_tokens: cached, by the engine's word.
        """
        if foreseen_tokens <= 0.0:
            return
        sums = self._sums.setdefault(backend, [TRUST_TOKENS, TRUST_TOKENS])
        kept = max(0.0, 1.0 - foreseen_tokens / KEPT_TOKENS)
        sums[0] = sums[0] * kept + max(0.0, reported_tokens)
        sums[1] = sums[1] * kept + foreseen_tokens

    def to_state(self) -> dict[str, list[float]]:
        """All that was learned, as JSON."""
        return self._sums

    @classmethod
    def from_state(cls, state: object) -> "CacheShares":
        """What `to_state` gave; what makes no sense is left out."""
        made = cls()
        for backend, sums in state.items() if isinstance(state, dict) else ():
            if _are_sums(sums):
                made._sums[backend] = sums
        return made


def _are_sums(value: object) -> bool:
    if not isinstance(value, list) or not all(type(each) in (int, float) for each in value):
        return False
    return len(value) == 2 and 0.0 <= value[0] < math.inf and 0.0 < value[1] < math.inf


def foreseen_tokens(prefix: Prefix, place: int, prompt_tokens: int) -> float:
    """How many of a prompt's tokens one of its beginnings has, by its place counted from 1."""
    return prompt_tokens * prefix.ends_bytes[place - 1] / prefix.size_bytes
