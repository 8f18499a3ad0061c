"""The official `anthropic` SDK works unchanged in front of real servers: llama.cpp and Dynamo both speak its API."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.processes import eventually
from tests.real.conftest import Clients, Front
from tests.real.programs import Program

pytestmark = pytest.mark.real

CREATE = "messages.create"
HELLO: Any = [{"role": "user", "content": "Say hello."}]
LONG = [{"role": "user", "content": "word " * 90_000}]
BOTH = pytest.mark.parametrize("model", ["tiny", "claude-haiku-4-5"])
"""A mocker's model, and llama.cpp's by an alias."""


@pytest.fixture(scope="module")
def sdk(front: Front, clients: Clients) -> Iterator[Program]:
    """The SDK with a good key."""
    with clients(front.balancer, "openai3", "anthropic") as program:
        assert program.ask("version").startswith("2.12.")
        yield program


@BOTH
def test_a_message_is_answered(sdk: Program, model: str) -> None:
    """`messages.create` gives text, a stop reason and usage."""
    answer = sdk.ask("call", method=CREATE, model=model, messages=HELLO, max_tokens=5)["answer"]
    assert answer["content"][0]["text"]
    assert answer["stop_reason"] in ("max_tokens", "end_turn")
    assert answer["usage"]["output_tokens"] > 0


@BOTH
def test_a_stream_arrives_whole(sdk: Program, model: str) -> None:
    """The events come in the order of the API, from `message_start` to `message_stop`."""
    kinds = [event["type"] for event in sdk.ask("stream", method=CREATE, model=model, messages=HELLO, max_tokens=5)]
    assert kinds[0] == "message_start"
    assert kinds.count("content_block_delta") >= 2
    assert kinds[-2:] == ["message_delta", "message_stop"]


@BOTH
def test_the_sdks_own_stream_makes_a_message(sdk: Program, model: str) -> None:
    """`messages.stream` accumulates the same events into a message."""
    given = sdk.ask("gather", resource="messages", final="get_final_message", model=model, messages=HELLO, max_tokens=5)
    assert given["final"]["content"][0]["text"]
    assert given["final"]["stop_reason"] in ("max_tokens", "end_turn")


def test_many_streams_at_once_arrive_whole(sdk: Program) -> None:
    """24 streams of the asynchronous client end with `message_stop`."""
    streams = sdk.ask("together", method=CREATE, times=24, model="tiny", messages=HELLO, max_tokens=32)
    assert [stream[-1]["type"] for stream in streams] == ["message_stop"] * 24


@BOTH
def test_tokens_are_counted(sdk: Program, model: str) -> None:
    """`messages.count_tokens` is answered by the engine."""
    assert sdk.ask("call", method="messages.count_tokens", model=model, messages=HELLO)["answer"]["input_tokens"] > 3


def test_an_unknown_model_is_not_found(sdk: Program) -> None:
    """`NotFoundError` in Anthropic's shape."""
    error = sdk.refused("call", method=CREATE, model="no-such-model", messages=HELLO, max_tokens=5)
    assert (error.kind, error.carried["type"]) == ("NotFoundError", "not_found_error")


def test_a_wrong_key_is_refused(front: Front, clients: Clients) -> None:
    """`AuthenticationError` in Anthropic's shape."""
    with clients(front.balancer, "openai3", "anthropic", key="a-key-that-nobody-has") as stranger:
        error = stranger.refused("call", method=CREATE, model="tiny", messages=HELLO, max_tokens=5)
    assert (error.kind, error.carried["type"]) == ("AuthenticationError", "authentication_error")


def test_bad_json_is_a_bad_request(sdk: Program) -> None:
    """`BadRequestError` in Anthropic's shape."""
    error = sdk.refused("post", path="/v1/messages", content='{"model": "tiny", ')
    assert (error.kind, error.carried["type"]) == ("BadRequestError", "invalid_request_error")


def test_a_prompt_too_long_is_the_engines_bad_request(sdk: Program) -> None:
    """llama.cpp's own 400 arrives."""
    error = sdk.refused("call", method=CREATE, model="claude-haiku-4-5", messages=LONG, max_tokens=5)
    assert error.kind == "BadRequestError"
    assert "context size" in error.carried["message"]


def test_the_sdks_timeout_frees_the_engine(sdk: Program, front: Front) -> None:
    """After `APITimeoutError` the slot is free and Dynamo computes nothing any more."""
    patience = {"timeout": 0.3, "max_retries": 0}
    error = sdk.refused("call", method=CREATE, options=patience, model="tiny", messages=HELLO, max_tokens=60_000)
    assert error.kind == "APITimeoutError"
    eventually(front.is_idle, "the slot to be free")
    eventually(lambda: not front.fleet.mockers_are_busy(), "the mockers to stop")


def test_a_deadline_ends_in_504(sdk: Program) -> None:
    """`x-gpubalancer-deadline` as a default header: the SDK's error for 504."""
    impatient = {"max_retries": 0, "default_headers": {"x-gpubalancer-deadline": "300"}}
    error = sdk.refused("call", method=CREATE, options=impatient, model="tiny", messages=HELLO, max_tokens=20_000)
    assert (error.kind, error.carried["status_code"]) == ("GatewayTimeoutError", 504)
