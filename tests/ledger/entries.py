"""What the ledger's tests write down, and an obvious way to add it up."""

import json
import resource
from binascii import crc32
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from gpubalancer.ledger.records import Entry
from gpubalancer.ledger.store import By

NOON_S = int(datetime(2026, 11, 23, 12, tzinfo=UTC).timestamp())
NOON_NS = NOON_S * 1_000_000_000

FIELD: dict[By, str] = {
    "tenant": "tenant",
    "key": "key_id",
    "model": "model",
    "backend": "backend",
    "tier": "tier",
}


def entry(number: int = 0, **values: Any) -> Entry:
    """An entry with numbers that say which one it is."""
    given: dict[str, Any] = {
        "decision_id": f"d{number}",
        "request_id": f"r{number}",
        "at_us": NOON_S * 1_000_000 + number,
        "tenant": "team",
        "model": "llama",
        "backend": "gpu-1",
        "attempts": 1,
        "requests": 1,
        "prompt_tokens": 100 + number,
        "completion_tokens": 10,
        "nano_usd": 5,
        "millijoules": 7,
        "status": 200,
        "code": 200,
    }
    return Entry(**(given | values))


AMOUNTS = st.integers(0, 1 << 40)
NAMES = st.sampled_from(["a", "b", "-"])
ENTRIES = st.builds(
    Entry,
    decision_id=st.uuids().map(str),
    request_id=st.text(st.characters(codec="utf-8"), max_size=20),
    at_us=st.integers(-2, 2).map(lambda days: (NOON_S + days * 86_400) * 1_000_000),
    tenant=NAMES,
    key_id=NAMES,
    model=NAMES,
    backend=NAMES,
    tier=NAMES,
    requests=st.integers(0, 1),
    prompt_tokens=AMOUNTS,
    cached_tokens=AMOUNTS,
    completion_tokens=AMOUNTS,
    nano_usd=AMOUNTS,
    millijoules=AMOUNTS,
    ttft_s=st.floats(0, 1e6),
    reason=st.sampled_from(["", "client_left"]),
)


def whole_lines(paths: Iterable[Path]) -> list[dict[str, Any]]:
    """The entries of some segments, read in the most obvious way."""
    found = []
    for path in paths:
        for line in path.read_bytes().split(b"\n")[:-1]:
            check, _, body = line.partition(b" ")
            if crc32(body) == int(check, 16):
                found.append(json.loads(body))
    return found


def added_up(lines: Iterable[dict[str, Any]], by: Sequence[By]) -> dict[tuple[str, ...], list[int]]:
    """Requests, tokens (prompt, cached, completion), nano-dollars and millijoules, in the most obvious way."""
    sums: dict[tuple[str, ...], list[int]] = {}
    for line in lines:
        day = datetime.fromtimestamp(line["at_us"] // 1_000_000, UTC).strftime("%Y-%m-%d")
        row = sums.setdefault(tuple(day if each == "day" else line[FIELD[each]] for each in by), [0] * 6)
        row[0] += line["requests"]
        for at, name in enumerate(AMOUNT_NAMES, 1):
            row[at] += line[name]
    return {key: row for key, row in sums.items() if any(row)}


AMOUNT_NAMES = ("prompt_tokens", "cached_tokens", "completion_tokens", "nano_usd", "millijoules")


@contextmanager
def room_for(size_bytes: int) -> Iterator[None]:
    """The kernel lets no file of this process grow beyond a size: what a full disk does, at any byte."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
