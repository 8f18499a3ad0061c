"""One line of the journal: what a request was, what it took and what that cost. No prompt, no answer, no key.

    8 hexadecimal digits   a space   a JSON object with the fields of `Entry`   a newline

The digits are the CRC-32 of the JSON's bytes, which has no newline inside. Readers skip fields that they don't know and
take the default for one that is missing, so lines of older and newer versions can be read: a field may be added, and
none may change its meaning. What clients choose freely is cut and cleaned, so a line stays short and any database takes
it.
"""

import math
from dataclasses import MISSING, dataclass, fields
from zlib import crc32

import orjson

from gpubalancer.domain.budget import Spending
from gpubalancer.domain.outcome import NOBODY, Outcome

TEXT_LIMIT = 256
"""Characters of a text that are kept."""
MOST = (1 << 50) - 1
"""The greatest amount on one line; 8,192 of them fit into the 64 bits of a database's sums."""
LAST_US = 253_402_300_799_999_999
"""The last microsecond of the year 9999, which is the last that dates are written for."""
CHECK_BYTES = 9
"""The checksum and the space."""


class DamagedLineError(ValueError):
    """A line is not one that we wrote; the message says why."""


@dataclass(slots=True, kw_only=True)
class Entry:
    """What the ledger keeps of one request. Times are seconds; texts are `NOBODY` where nobody was known."""

    decision_id: str
    """Made by us for each request and by nobody else, so it is unique; `on_record` looks for it."""
    request_id: str
    """The client's own, where it sent one: it may come twice."""
    at_us: int
    """When the request ended, in microseconds since 1970."""
    tenant: str = NOBODY
    key_id: str = NOBODY
    """The first 8 hexadecimal digits of the SHA-256 of its key."""
    model_asked: str = NOBODY
    """As the client wrote it."""
    model: str = NOBODY
    """The public name that was served: after aliases, and after a downgrade."""
    backend: str = NOBODY
    kind: str = NOBODY
    api: str = NOBODY
    attempts: int = 0
    tier: str = NOBODY
    tier_source: str = NOBODY
    requests: int = 0
    """1 if it was charged as a request, 0 if it was refused, answered here, or failed before it took anything."""
    prompt_tokens: int = 0
    cached_tokens: int = 0
    """Of the prompt's, those that the engine had already."""
    completion_tokens: int = 0
    usage_source: str = ""
    """`reported`, `counted` or `estimated`; empty where no tokens were taken."""
    nano_usd: int = 0
    millijoules: int = 0
    ttft_s: float = 0.0
    tpot_s: float = 0.0
    duration_s: float = 0.0
    status: int = 0
    code: int = 0
    reason: str = ""


_KINDS = {each.name: each.type for each in fields(Entry)}
_REQUIRED = frozenset(each.name for each in fields(Entry) if each.default is MISSING)


def line_of(outcome: Outcome, spending: Spending, at_us: int) -> bytes:
    """The line of a request that has ended, its newline included. About 6 us, so it is one dictionary and one dump.

    Arguments:
        outcome: how it ended.
        spending: what it was charged, in the numbers that its budgets were settled with.
        at_us: when, in microseconds since 1970.
    """
    if min(spending) < 0 or max(spending) > MOST or not 0 <= at_us <= LAST_US:
        spending, at_us = Spending(*[min(max(each, 0), MOST) for each in spending]), min(max(at_us, 0), LAST_US)
    return _line(
        {
            "decision_id": outcome.decision_id,
            "request_id": _text(outcome.request_id),
            "at_us": at_us,
            "tenant": outcome.tenant,
            "key_id": outcome.key_id,
            "model_asked": _text(outcome.model_asked),
            "model": _text(outcome.model),
            "backend": outcome.backend,
            "kind": outcome.kind,
            "api": outcome.api,
            "attempts": outcome.attempts,
            "tier": outcome.tier,
            "tier_source": _text(outcome.tier_source),
            "requests": spending.requests,
            "prompt_tokens": spending.prompt_tokens,
            "cached_tokens": spending.cached_tokens,
            "completion_tokens": spending.completion_tokens,
            "usage_source": outcome.usage_source,
            "nano_usd": spending.nano_usd,
            "millijoules": spending.millijoules,
            "ttft_s": _seconds(outcome.ttft_s),
            "tpot_s": _seconds(outcome.tpot_s),
            "duration_s": _seconds(outcome.ended_s - outcome.started_s),
            "status": outcome.status,
            "code": outcome.code,
            "reason": outcome.reason,
        }
    )


def encode(entry: Entry) -> bytes:
    """An entry's line, its newline included."""
    return _line(entry)


def decode(line: bytes) -> Entry:
    """The entry of a line without its newline.

    Raises:
        DamagedLineError: the checksum does not fit, or the line never was one of ours.
    """
    body = line[CHECK_BYTES:]
    if line[:CHECK_BYTES] != b"%08x " % crc32(body):
        raise DamagedLineError("its checksum does not fit")
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise DamagedLineError("it is no JSON") from None
    if type(found) is not dict or not found.keys() >= _REQUIRED:
        raise DamagedLineError("it is no entry")
    if found.keys() != _KINDS.keys():
        found = {name: value for name, value in found.items() if name in _KINDS}
    for name, value in found.items():
        kind = _KINDS[name]
        if type(value) is not kind or (kind is int and not 0 <= value <= LAST_US):
            raise DamagedLineError(f"its {name} is none")
    return Entry(**found)


def _line(content: object) -> bytes:
    body = orjson.dumps(content)
    return b"%08x %b\n" % (crc32(body), body)


def _text(text: str) -> str:
    """Cut, and without what is no character: control characters, and halves of surrogate pairs."""
    if len(text) <= TEXT_LIMIT and text.isprintable():
        return text
    return "".join(each if each.isprintable() else "\ufffd" for each in text[:TEXT_LIMIT])


def _seconds(seconds: float) -> float:
    return round(seconds, 6) if 0.0 <= seconds < math.inf else 0.0
