"""Public request vectors, as they are and mutated: only strict HTTP/1.1 leaves, whatever comes, and nothing is a 500.

The oracle needs no expectations: every byte at the backend is canonical, every request there was answered to the client
that sent it, and no answer is a 500 or unreadable. The mutations are seeded, so that a failure comes again.
"""

import asyncio
import base64
import json
import os
import random
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.attack.arena import Arena, balancer_arena
from tests.attack.client import Exchange, exchange_all, pacing

pytestmark = pytest.mark.real

VECTORS = Path(os.environ.get("GPUBALANCER_VECTORS", Path(__file__).parents[3] / "shared" / "vectors"))
MUTANTS = 20_000
SEED = 20_261_123
BATCH = 250  # connections at once
TIME_LIMIT_S = 60.0


@pytest.fixture(scope="module")
def vectors() -> list[bytes]:
    """The raw requests of the public suites."""
    path = VECTORS / "http_requests.jsonl"
    if not path.exists():
        pytest.skip(f"the public vectors are not at {path}: set GPUBALANCER_VECTORS to their folder")
    return [base64.b64decode(json.loads(line)["raw_base64"]) for line in path.read_text().splitlines()]


@pytest.fixture(scope="module")
def arena(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Arena]:
    """A balancer in front of a recording backend."""
    with balancer_arena(tmp_path_factory.mktemp("vectors")) as arena:
        yield arena


def test_public_vectors_leave_canonical_or_not_at_all(vectors: list[bytes], arena: Arena) -> None:
    """All public vectors as they are: zero non-canonical bytes, as many requests as were accepted, no 500."""
    _judge(arena, asyncio.run(_send_all(arena, [[raw] for raw in vectors])))


def test_mutated_vectors_leave_canonical_or_not_at_all(vectors: list[bytes], arena: Arena) -> None:
    """Thousands of seeded mutants (bytes changed, cut into segments, pipelined in pairs): the same, within a minute."""
    dice = random.Random(SEED)
    small = [raw for raw in vectors if 1 < len(raw) <= 4096]
    started_s = time.monotonic()
    _judge(arena, asyncio.run(_send_all(arena, [mutant(dice, small) for _ in range(MUTANTS)])))
    assert time.monotonic() - started_s < TIME_LIMIT_S


def mutant(dice: random.Random, vectors: Sequence[bytes]) -> list[bytes]:
    """One mutated request, as the segments that are sent."""
    raw = dice.choice(vectors)
    kind = dice.choice(("flip", "swap", "drop", "double", "split", "pair", "flipped pair"))
    if kind.endswith("pair"):
        raw += dice.choice(vectors)
    at = dice.randrange(len(raw))
    if kind.startswith("flip"):
        raw = raw[:at] + bytes([raw[at] ^ 1 << dice.randrange(8)]) + raw[at + 1 :]
    elif kind == "swap":
        raw = (
            raw[:at] + dice.choice([b"\r", b"\n", b"\0", b" ", b"\t", b":", b";", b",", b"0", b"\xff"]) + raw[at + 1 :]
        )
    elif kind == "drop":
        raw = raw[:at] + raw[at + dice.randint(1, 4) :]
    elif kind == "double":
        raw = raw[: at + 1] + raw[at:]
    elif kind == "split":
        return [part for part in (raw[:at], raw[at:]) if part]
    return [raw or b"\r\n"]


async def _send_all(arena: Arena, requests: Sequence[list[bytes]]) -> list[tuple[bytes, Exchange]]:
    results: list[tuple[bytes, Exchange]] = []
    async with pacing(arena.port, arena.claimed) as pacer:
        for start in range(0, len(requests), BATCH):
            batch = requests[start : start + BATCH]
            answered = await exchange_all(pacer, batch, arena.records.count)
            results += zip(map(b"".join, batch), answered, strict=True)
    return results


def _judge(arena: Arena, results: Sequence[tuple[bytes, Exchange]]) -> None:
    statuses = Counter(status for _, result in results for status in result.statuses)
    silent = sum(not result.answers for _, result in results)
    print(f"\n{len(results)} sent; answers by status {dict(sorted(statuses.items()))}; {silent} unanswered")
    print(f"{len(arena.records.requests())} requests at the backend since the start")
    assert [(raw, str(result.verdict)) for raw, result in results if result.verdict] == []
    assert [raw for raw, result in results if 500 in result.statuses] == []
    assert [raw for raw, result in results if any(status in (502, 503, 504) for status in result.statuses)] == []
    assert arena.records.violations() == []
    assert [f"{request.method} {request.target} {request.fields}" for request in arena.unclaimed()] == []
    assert statuses[200] > len(results) // 50, "too little was accepted for the test to mean anything"
