"""The open-loop client: what it sends, and how it judges what comes."""

import time

import orjson
import pytest

from bench.openloop import MOST_OUTPUT_TOKENS, Seen, body_of
from bench.traces import BLOCK_TOKENS, Arrival
from gpubalancer.sim.bodies import ChatBody
from gpubalancer.sim.calls import Settings, plan_call
from gpubalancer.sim.hardware import HARDWARE


def asked(arrival: Arrival, own: str = "own", salt: str = "salt") -> tuple[list[int], int]:
    """The prompt's tokens and the answer's length, as a simulated engine takes them."""
    ask = ChatBody.model_validate(orjson.loads(body_of(arrival, own, salt))).ask()
    settings = Settings(models=("bench-model",), hardware=HARDWARE["h100"], mean_output_tokens=1)
    call = plan_call(ask, settings)
    return list(call.requests[0].prompt), call.requests[0].output_tokens


def test_the_engine_reads_the_traces_lengths() -> None:
    """A prompt has the trace's tokens and its answer the trace's length; `max_tokens` tells nobody."""
    prompt, output_tokens = asked(Arrival(0.0, 700, 37))
    assert (len(prompt), output_tokens) == (700, 37)
    assert orjson.loads(body_of(Arrival(0.0, 700, 37), "own", "salt"))["max_tokens"] == MOST_OUTPUT_TOKENS


def test_shared_blocks_are_the_same_words() -> None:
    """Prompts with the same first block begin alike, for one salt; what is a request's own differs."""
    one, other = (asked(Arrival(0.0, 2 * BLOCK_TOKENS, 5, (7,)), own)[0] for own in ("a", "b"))
    assert one[:BLOCK_TOKENS] == other[:BLOCK_TOKENS]
    assert one != other
    assert asked(Arrival(0.0, 2 * BLOCK_TOKENS, 5, (7,)), "a", "another")[0][:BLOCK_TOKENS] != one[:BLOCK_TOKENS]


def event(text: str) -> bytes:
    """One event of a stream."""
    return b"data: " + orjson.dumps({"choices": [{"delta": {"content": text}}]}) + b"\n\n"


def test_times_are_what_the_client_sees() -> None:
    """The first text counts from when it was due, a role is none, and a left stream is judged by its events."""
    seen = Seen(Arrival(0.0, 10, 33), time.perf_counter() - 1.0)
    seen.feed(event(""))
    assert seen.ttft_s() == float("inf")
    for _ in range(3):
        seen.feed(event("word"))
    assert seen.ttft_s() == pytest.approx(1.0, abs=0.5)
    seen.first_s, seen.last_s, seen.events = 10.0, 13.2, 3
    assert seen.tpot_s(16) == pytest.approx(0.1)
    seen.ended = True
    assert seen.tpot_s(16) == pytest.approx(0.1)
    assert seen.fault_of_body() == "no usage"
    seen.feed(b'data: {"usage": {"completion_tokens": 32}}\n\n')
    assert seen.fault_of_body() == "wrong length"
    seen.feed(b'data: {"usage": {"completion_tokens": 33}}\n\n')
