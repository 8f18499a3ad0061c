"""Traces: reading both formats, and cutting windows."""

from pathlib import Path

import orjson
import pytest

from bench.traces import Arrival, read_trace, window

AZURE = """TIMESTAMP,ContextTokens,GeneratedTokens
2023-11-16 18:15:46.6805900,374,44
2023-11-16 18:15:50.6805900,0,109
"""


def test_azure_and_mooncake_read_alike(tmp_path: Path) -> None:
    """Both give times from zero and at least one token each way; Mooncake's blocks come along."""
    azure, mooncake = tmp_path / "a.csv", tmp_path / "m.jsonl"
    azure.write_text(AZURE)
    rows = [
        {"timestamp": 500 + 1000 * at, "input_length": 700, "output_length": 5, "hash_ids": [0, at]} for at in (0, 4)
    ]
    mooncake.write_bytes(b"\n".join(orjson.dumps(row) for row in rows))
    first, second = read_trace(azure)
    assert (first, second.prompt_tokens, second.output_tokens) == (Arrival(0.0, 374, 44), 1, 109)
    assert second.at_s == pytest.approx(4.0)
    assert read_trace(mooncake) == (Arrival(0.0, 700, 5, (0, 0)), Arrival(4.0, 700, 5, (0, 4)))


def test_a_window_is_consecutive_and_stretched() -> None:
    """It has the rate that was asked for, keeps order and lengths, and is the same for the same seed."""
    trace = tuple(Arrival(float(number), number + 1, 1) for number in range(1000))
    cut = window(trace, 10.0, 5.0, 3)
    assert len(cut) == 50
    assert [each.prompt_tokens - cut[0].prompt_tokens for each in cut] == list(range(50))
    assert [cut[0].at_s, cut[-1].at_s] == pytest.approx([0.0, 4.9])
    assert cut == window(trace, 10.0, 5.0, 3) != window(trace, 10.0, 5.0, 4)


def test_a_window_longer_than_the_trace_is_refused() -> None:
    """Nothing is made up."""
    with pytest.raises(ValueError, match="more than the trace has"):
        window(tuple(Arrival(float(number), 1, 1) for number in range(10)), 2.0, 5.0, 1)
