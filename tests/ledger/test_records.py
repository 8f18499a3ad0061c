"""Lines: what is in them, and that a damaged one is never taken for another."""

import json
import math
from zlib import crc32

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpubalancer.domain.budget import NOTHING, Spending
from gpubalancer.domain.outcome import Outcome
from gpubalancer.ledger.records import (
    LAST_US,
    MOST,
    TEXT_LIMIT,
    DamagedLineError,
    Entry,
    decode,
    encode,
    line_of,
)
from tests.ledger.entries import ENTRIES, NOON_S, entry


def line_with(body: bytes) -> bytes:
    """A line whose checksum fits, whatever it says."""
    return b"%08x %b" % (crc32(body), body)


@given(ENTRIES)
def test_what_was_written_is_read(given_entry: Entry) -> None:
    """A line holds its entry, and one newline at its end."""
    line = encode(given_entry)
    assert line.count(b"\n") == 1
    assert decode(line.removesuffix(b"\n")) == given_entry


@given(st.data())
def test_a_changed_byte_is_noticed(data: st.DataObject) -> None:
    """A line with any one byte changed is no line."""
    line = bytearray(encode(entry()).removesuffix(b"\n"))
    line[data.draw(st.integers(0, len(line) - 1))] ^= data.draw(st.integers(1, 255))
    with pytest.raises(DamagedLineError, match="checksum"):
        decode(bytes(line))


@given(st.binary(max_size=300))
def test_no_bytes_do_harm(data: bytes) -> None:
    """What was not written by us is refused, with or without a checksum that fits."""
    for line in (data, line_with(data)):
        with pytest.raises(DamagedLineError):
            decode(line)


def test_an_entry_says_how_a_request_ended() -> None:
    """Outcome, key, money and energy are in the line under the names that the ledger uses."""
    outcome = Outcome("r", 100.0, decision_id="d", api="chat", tenant="team", key_id="0a1b2c3d")
    outcome.model_asked, outcome.model, outcome.backend, outcome.kind = "gpt", "llama", "gpu-1", "gpu"
    outcome.tier, outcome.tier_source, outcome.attempts, outcome.status = "internal", "header", 2, 200
    outcome.completion_tokens = 5
    outcome.usage_source, outcome.streamed = "reported", True
    outcome.first_token_s, outcome.last_token_s, outcome.ended_s = 100.5, 100.9, 101.0
    line = line_of(outcome, Spending(30, 10, 5, 1, 7, 9), NOON_S * 1_000_000)
    found = decode(line.removesuffix(b"\n"))
    assert line == encode(found)
    assert orjson.loads(line[9:]) == {
        "decision_id": "d",
        "request_id": "r",
        "at_us": NOON_S * 1_000_000,
        "tenant": "team",
        "key_id": "0a1b2c3d",
        "model_asked": "gpt",
        "model": "llama",
        "backend": "gpu-1",
        "kind": "gpu",
        "api": "chat",
        "attempts": 2,
        "tier": "internal",
        "tier_source": "header",
        "requests": 1,
        "prompt_tokens": 30,
        "cached_tokens": 10,
        "completion_tokens": 5,
        "usage_source": "reported",
        "nano_usd": 7,
        "millijoules": 9,
        "ttft_s": 0.5,
        "tpot_s": 0.1,
        "duration_s": 1.0,
        "status": 200,
        "code": 200,
        "reason": "",
    }


def test_numbers_that_lie_are_cut() -> None:
    """Negative and huge amounts, and times that are none, leave a line that can be read and summed."""
    outcome = Outcome("r", 0.0, decision_id="d")
    outcome.first_token_s = math.nan
    outcome.ended_s = math.inf
    made = decode(line_of(outcome, Spending(-5, 1 << 80, MOST, 1, -1), 10**30)[:-1])
    assert (made.prompt_tokens, made.cached_tokens, made.completion_tokens, made.nano_usd) == (0, MOST, MOST, 0)
    assert (made.at_us, made.ttft_s, made.duration_s) == (LAST_US, 0.0, 0.0)


@pytest.mark.parametrize("text", ["a\nb", "a\x00b", "\ud800", "x" * 100_000, "caf\u00e9 \U0001f600", "\u2028"])
def test_texts_of_clients_are_cleaned(text: str) -> None:
    """Whatever a client calls its request or its model, the line is short and every database takes it."""
    line = line_of(Outcome(text, 0.0, model_asked=text), NOTHING, NOON_S * 1_000_000)
    made = decode(line[:-1])
    assert len(line) < 5 * TEXT_LIMIT + 800
    assert b"\\u0000" not in line
    if text.isprintable() and len(text) <= TEXT_LIMIT:
        assert (made.request_id, made.model_asked) == (text, text)


def test_lines_of_other_versions_are_read() -> None:
    """A field that is missing has its default, and one that is not known is skipped."""
    body = json.dumps({"decision_id": "d", "request_id": "r", "at_us": 1, "novel": [1]}).encode()
    assert decode(line_with(body)) == Entry(decision_id="d", request_id="r", at_us=1)


@pytest.mark.parametrize(
    ("field", "value"),
    [("prompt_tokens", "5"), ("prompt_tokens", 1.5), ("prompt_tokens", -1), ("prompt_tokens", True)]
    + [("at_us", LAST_US + 1), ("tenant", None), ("ttft_s", 1), ("decision_id", 3)],
)
def test_a_field_of_another_kind_is_damage(field: str, value: object) -> None:
    """A checksum that fits is not enough: a line that we can't have written is not summed."""
    body = orjson.dumps(orjson.loads(encode(entry())[9:]) | {field: value})
    with pytest.raises(DamagedLineError, match=f"its {field} is none"):
        decode(line_with(body))


@pytest.mark.parametrize("body", [b"[]", b"{}", b"null", b'{"decision_id":"d"}'])
def test_json_that_is_no_entry_is_damage(body: bytes) -> None:
    """The three fields that have no default must be there."""
    with pytest.raises(DamagedLineError, match="no entry"):
        decode(line_with(body))
