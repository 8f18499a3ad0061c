"""The official `openai` SDK, both of its lines, works unchanged in front of real servers.

2.x and 3.x stand on different HTTP stacks (httpx and httpx2). Both are told nothing but the two environment variables.
"""

import math
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.processes import eventually
from tests.real.conftest import Clients, Front
from tests.real.programs import Program

pytestmark = pytest.mark.real

CHAT = "chat.completions.create"
HELLO: Any = [{"role": "user", "content": "Say hello."}]
LONG = [{"role": "user", "content": "word " * 90_000}]
"""More tokens than any of the servers takes."""
VERSIONS = {"openai2": "2.54.", "openai3": "3.54."}


@pytest.fixture(scope="module", params=VERSIONS)
def sdk(request: pytest.FixtureRequest, front: Front, clients: Clients) -> Iterator[Program]:
    """One of the SDK's lines with a good key."""
    with clients(front.balancer, request.param, "openai") as program:
        assert program.ask("version").startswith(VERSIONS[request.param])
        yield program


def test_models_are_listed_and_found(sdk: Program) -> None:
    """The SDK lists the models that the key may use, and retrieves one by name."""
    listed = sdk.ask("call", method="models.list")["answer"]["data"]
    assert [model["id"] for model in listed] == ["embedder", "gemma", "tiny"]
    assert sdk.ask("call", method="models.retrieve", model="gemma")["answer"]["id"] == "gemma"


@pytest.mark.parametrize(("model", "backends"), [("gpt-4o-mini", {"mocker-1", "mocker-2"}), ("gemma", {"llama"})])
def test_a_chat_is_answered(sdk: Program, model: str, backends: set[str]) -> None:
    """A chat, by alias too, is answered by a server that has the model, with text, finish reason and usage."""
    given = sdk.ask("call", method=CHAT, model=model, messages=HELLO, max_tokens=5)
    (choice,) = given["answer"]["choices"]
    assert given["headers"]["x-gpubalancer-backend"] in backends
    assert choice["message"]["content"]
    assert choice["finish_reason"] in ("length", "stop")
    assert given["answer"]["usage"]["prompt_tokens"] > 3


def test_fields_that_only_one_engine_knows_reach_it(sdk: Program) -> None:
    """llama.cpp's own `grammar` field crosses: the answer is one of the two words that it allows."""
    grammar = {"grammar": 'root ::= "yes" | "no"'}
    given = sdk.ask("gather", resource="chat.completions", final="get_final_completion",
                    model="gemma", messages=HELLO, max_tokens=20, extra_body=grammar)  # fmt: skip
    (choice,) = given["final"]["choices"]
    assert choice["message"]["content"] in ("yes", "no")
    assert choice["finish_reason"] == "stop"


@pytest.mark.parametrize("model", ["tiny", "gemma"])
def test_a_stream_arrives_whole(sdk: Program, model: str) -> None:
    """Events come one by one; usage comes last because it was asked for."""
    *events, last = sdk.ask(
        "stream", method=CHAT, model=model, messages=HELLO, max_tokens=8, stream_options={"include_usage": True}
    )
    pieces = [choice["delta"]["content"] for event in events for choice in event["choices"]]
    assert sum(bool(piece) for piece in pieces) >= 4
    assert events[-1]["choices"][0]["finish_reason"] in ("length", "stop")
    assert last["choices"] == []
    assert last["usage"]["completion_tokens"] == 8 or events[-1]["choices"][0]["finish_reason"] == "stop"


@pytest.mark.parametrize("model", ["tiny", "gemma"])
def test_usage_that_was_not_asked_for_is_not_sent(sdk: Program, model: str) -> None:
    """Every event of a plain stream has a choice, so that code which takes `choices[0]` works."""
    events = sdk.ask("stream", method=CHAT, model=model, messages=HELLO, max_tokens=4)
    assert all(event["choices"] for event in events)


def test_many_streams_at_once_are_shared_out(sdk: Program, front: Front) -> None:
    """24 streams of the asynchronous client arrive whole, and each mocker has served a fair share."""
    request_id = f"shared-{sdk.ask('version')}"
    named = {"x-request-id": request_id}
    streams = sdk.ask(
        "together", method=CHAT, times=24, model="tiny", messages=HELLO, max_tokens=32, extra_headers=named
    )
    assert [stream[-1]["choices"][0]["finish_reason"] for stream in streams] == ["length"] * 24
    eventually(lambda: len(front.balancer.lines(request_id=request_id)) == 24, "24 lines in the log")
    shares = Counter(line["backend"] for line in front.balancer.lines(request_id=request_id))
    assert set(shares) == {"mocker-1", "mocker-2"}
    assert min(shares.values()) >= 6


@pytest.mark.parametrize("model", ["tiny", "gemma"])
def test_the_responses_api_works(sdk: Program, model: str) -> None:
    """`responses.create` gives text, whole and as events."""
    asked: Any = {"method": "responses.create", "model": model, "input": "Say hello.", "max_output_tokens": 6}
    (item,) = sdk.ask("call", **asked)["answer"]["output"]
    assert item["content"][0]["text"]
    kinds = [event["type"] for event in sdk.ask("stream", **asked)]
    assert kinds[0] == "response.created"
    assert "response.output_text.delta" in kinds
    assert kinds[-1] in ("response.completed", "response.incomplete")


def test_the_old_completions_api_works(sdk: Program) -> None:
    """`completions.create` gives text."""
    answer = sdk.ask("call", method="completions.create", model="tiny", prompt="Once", max_tokens=4)["answer"]
    assert answer["choices"][0]["text"]


def test_embeddings_are_the_same_in_both_encodings(sdk: Program) -> None:
    """Vectors have length one, differ by text, and are the same as base64, the SDK's default, and as numbers."""
    asked: Any = {"method": "embeddings.create", "model": "text-embedding-3-small", "input": ["a cat", "the law"]}
    vectors = [item["embedding"] for item in sdk.ask("call", **asked)["answer"]["data"]]
    as_numbers = sdk.ask("call", encoding_format="float", **asked)["answer"]["data"]
    assert [math.hypot(*vector) for vector in vectors] == pytest.approx([1, 1], abs=1e-3)
    assert vectors[0] != vectors[1]
    for vector, item in zip(vectors, as_numbers, strict=True):
        assert vector == pytest.approx(item["embedding"], abs=1e-6)


def test_an_unknown_model_is_not_found(sdk: Program) -> None:
    """`NotFoundError` with the code `model_not_found`, and the request's id."""
    error = sdk.refused("call", method=CHAT, model="no-such-model", messages=HELLO)
    assert (error.kind, error.carried["code"]) == ("NotFoundError", "model_not_found")
    assert error.carried["param"] == "model"
    assert error.carried["request_id"]


def test_a_wrong_key_is_refused(front: Front, clients: Clients, sdk: Program) -> None:
    """`AuthenticationError` with the code `invalid_api_key`."""
    venv = "openai2" if sdk.ask("version").startswith("2") else "openai3"
    with clients(front.balancer, venv, "openai", key="a-key-that-nobody-has") as stranger:
        error = stranger.refused("call", method=CHAT, model="tiny", messages=HELLO)
    assert (error.kind, error.carried["code"]) == ("AuthenticationError", "invalid_api_key")


def test_bad_json_is_a_bad_request(sdk: Program) -> None:
    """`BadRequestError` with the code `invalid_json`."""
    error = sdk.refused("post", path="/chat/completions", content='{"model": "tiny", ')
    assert (error.kind, error.carried["code"]) == ("BadRequestError", "invalid_json")


def test_what_the_engine_refuses_is_told_in_its_words(sdk: Program) -> None:
    """Messages of a wrong type are the engine's `BadRequestError`."""
    error = sdk.refused("call", method=CHAT, model="gemma", messages="no list")
    assert error.kind == "BadRequestError"
    assert "messages" in error.carried["message"]


def test_a_prompt_too_long_for_llamacpp_is_a_bad_request(sdk: Program) -> None:
    """llama.cpp's own 400 arrives, with its type."""
    error = sdk.refused("call", method=CHAT, model="gemma", messages=LONG, max_tokens=4)
    assert (error.kind, error.carried["type"]) == ("BadRequestError", "exceed_context_size_error")


def test_a_prompt_too_long_for_a_mocker_takes_no_backend_out(sdk: Program, front: Front) -> None:
    """Dynamo answers 500; the SDK tries again and raises it, and both mockers serve on."""
    assert sdk.refused("call", method=CHAT, model="tiny", messages=LONG, max_tokens=4).kind == "InternalServerError"
    assert sdk.ask("call", method=CHAT, model="tiny", messages=HELLO, max_tokens=4)["answer"]["choices"]
    assert front.balancer.metric("gpubalancer_backend_up") == 4


def test_the_sdks_timeout_frees_the_engine(sdk: Program, front: Front) -> None:
    """After `APITimeoutError` the slot is free and Dynamo computes nothing any more."""
    patience = {"timeout": 0.5, "max_retries": 0}
    error = sdk.refused("call", method=CHAT, options=patience, model="tiny", messages=HELLO, max_tokens=60_000)
    assert error.kind == "APITimeoutError"
    eventually(front.is_idle, "the slot to be free")
    eventually(lambda: not front.fleet.mockers_are_busy(), "the mockers to stop")


def test_a_timeout_is_tried_again_as_the_sdk_does(sdk: Program, front: Front) -> None:
    """With its default of two retries the SDK sends a request three times; each of them is cancelled."""
    request_id = f"again-{sdk.ask('version')}"
    options = {"timeout": 0.3, "default_headers": {"x-request-id": request_id}}
    error = sdk.refused("call", method=CHAT, options=options, model="tiny", messages=HELLO, max_tokens=60_000)
    assert error.kind == "APITimeoutError"
    eventually(lambda: len(front.balancer.lines(request_id=request_id, code=499)) == 3, "three lines in the log")


def test_a_deadline_ends_in_504(sdk: Program, front: Front) -> None:
    """`x-gpubalancer-deadline` as a default header: the SDK's error for 504 with the code `timed_out`."""
    impatient = {"max_retries": 0, "default_headers": {"x-gpubalancer-deadline": "300"}}
    error = sdk.refused("call", method=CHAT, options=impatient, model="tiny", messages=HELLO, max_tokens=60_000)
    assert (error.carried["status_code"], error.carried["code"]) == (504, "timed_out")
    eventually(lambda: not front.fleet.mockers_are_busy(), "the mockers to stop")
