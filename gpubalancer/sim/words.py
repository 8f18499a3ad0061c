"""Text as token numbers, and answers made of common words.

Nothing here understands language. A text is cut into pieces about as long as those of real tokenizers (words of up to
eight letters with their leading space, numbers of up to three digits, single signs); a piece's number is its checksum.
An answer is a row of common English words, each one piece, drawn from the seed, the prompt and the position. So the
same request with the same seed gets the same answer, and an answer that comes back in the next turn's prompt is found
in the prefix cache.
"""

import math
import re
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from statistics import NormalDist
from zlib import crc32

from gpubalancer.sim.engine import Reason

VOCABULARY = 128_256
"""Token numbers are below this: the size of Llama 3's vocabulary."""

MEAN_OUTPUT_TOKENS = 211
"""Mean answer length of the Azure 2023 conversation trace."""

SPREAD = 0.8
"""Standard deviation of the logarithm of answer lengths: our choice, the 99th percentile is then 4.7 times the mean."""

_PIECE = re.compile(r" ?[A-Za-z]{1,8}| ?\d{1,3}|\n+|\s+| ?[^\sA-Za-z\d]")

_COMMON = """
the of and to in is that it for as was with be by on not he this are or his from at which but have an had they
you were their one all we can her has there been if more when will would who so no out up into them then she
some what could time these two may do other its new only such any over our most like also made after first
many must before through back where much your way well down should because each just those people how too
little state good very make world still see own men work long here get both between life being under never day
same another know while last might us great old year off come since go came right used take three small light
field river stone garden window water paper music story house road number table letter summer winter morning
evening
"""
_WORDS = tuple(_COMMON.split())
_NEXT = tuple(f" {word}" for word in _WORDS) + (",", ".") * 6
_MASK = (1 << 64) - 1


def piece_number(piece: str) -> int:
    """The token number of one piece."""
    return crc32(piece.encode()) % VOCABULARY


def tokenize(text: str) -> list[int]:
    """Token numbers of a text; at least as many as there are words in it."""
    return [crc32(piece.encode()) % VOCABULARY for piece in _PIECE.findall(text)]


_FIRST_NUMBERS = tuple(piece_number(word) for word in _WORDS)
_NEXT_NUMBERS = tuple(piece_number(piece) for piece in _NEXT)


class Script:
    """The endless answer to one prompt: token i and its text, for any i, in any order.

    Arguments:
        seed: the request's own seed, else the engine's.
        prompt: its token numbers.
        choice: which of the `n` answers.
    """

    def __init__(self, seed: int, prompt: Sequence[int], choice: int = 0) -> None:
        digest = blake2b(
            array("I", prompt).tobytes(), digest_size=8, person=b"%d" % choice, salt=b"%d" % (seed % 10**15)
        )
        self._key = int.from_bytes(digest.digest(), "big")

    def _draw(self, i: int) -> int:
        """A number of 31 bits, as good as random (the first steps of SplitMix64's finish)."""
        bits = (self._key + (i + 1) * 0x9E3779B97F4A7C15) & _MASK
        bits = ((bits ^ (bits >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        return bits >> 33

    def token(self, i: int) -> int:
        """The number of output token i."""
        draw = self._draw(i)
        return _NEXT_NUMBERS[draw % len(_NEXT_NUMBERS)] if i else _FIRST_NUMBERS[draw % len(_FIRST_NUMBERS)]

    def text(self, i: int) -> str:
        """The text of output token i; `tokenize` of all of them gives the numbers back."""
        draw = self._draw(i)
        return _NEXT[draw % len(_NEXT)] if i else _WORDS[draw % len(_WORDS)]

    def natural_tokens(self, mean_tokens: float) -> int:
        """How long the answer would be if nothing limited it: log-normal with this mean."""
        quantile = (self._draw(-2) + 0.5) / (1 << 31)
        z = NormalDist().inv_cdf(quantile)
        return max(1, round(math.exp(math.log(mean_tokens) - SPREAD * SPREAD / 2 + SPREAD * z)))


@dataclass(frozen=True, slots=True)
class Answer:
    """What will be said: the first `tokens` tokens of a script, and why it ends there.

    `pieces` stands in for the script's texts where a stop text cuts the last ones short.
    """

    script: Script
    tokens: int
    reason: Reason
    pieces: tuple[str, ...] | None = None

    def text(self, i: int) -> str:
        """What token i adds to the visible text."""
        return self.pieces[i] if self.pieces is not None else self.script.text(i)


def plan_answer(
    script: Script,
    *,
    limit_tokens: int,
    mean_tokens: float = MEAN_OUTPUT_TOKENS,
    least_tokens: int = 0,
    endless: bool = False,
    stop: Sequence[str] = (),
) -> Answer:
    """Decide where an answer ends.

    Arguments:
        script: what would be said without end.
        limit_tokens: the most that may be produced; reaching it is `length`, ending before it `stop`.
        mean_tokens: mean of the natural lengths.
        least_tokens: not shorter than this, and no stop text counts before it.
        endless: no natural end (`ignore_eos`).
        stop: texts that end the answer and are not part of it.
    """
    tokens, reason = limit_tokens, Reason.LENGTH
    if not endless:
        natural = max(script.natural_tokens(mean_tokens), least_tokens)
        if natural <= limit_tokens:
            tokens, reason = natural, Reason.STOP
    if stop:
        pieces = _pieces_before(script, tokens, least_tokens, stop)
        if pieces is not None:
            return Answer(script, len(pieces), Reason.STOP, pieces)
    return Answer(script, tokens, reason)


def _pieces_before(script: Script, tokens: int, least_tokens: int, stop: Sequence[str]) -> tuple[str, ...] | None:
    """The pieces up to the first stop text, without it; the last ones may be empty. None where no stop text comes."""
    text = ""
    starts: list[int] = []
    for i in range(tokens):
        starts.append(len(text))
        text += script.text(i)
        if i + 1 < least_tokens:
            continue
        found = [at for word in stop if (at := text.find(word, max(0, starts[i] - len(word) + 1))) >= 0]
        if found:
            end = min(found)
            ends = starts[1:] + [len(text)]
            return tuple(text[min(a, end) : min(b, end)] for a, b in zip(starts, ends, strict=True))
    return None
