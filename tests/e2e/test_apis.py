"""Every API of the data port, answered by a simulated engine."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.clients import Answer, ask, chat
from tests.e2e.processes import Balancer, engine, free_port, serving

MESSAGES = [{"role": "user", "content": "hello"}]


@pytest.fixture(scope="module")
def balancer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Balancer]:
    """One engine that knows the model `m` by another name, and a dead backend beside it."""
    with engine("vendor/m-7b-instruct", "plain") as url:
        known_as = {"m": "vendor/m-7b-instruct", "plain": "plain"}
        backends: list[dict[str, Any]] = [
            {"name": "engine", "url": f"{url}/v1", "kind": "gpu", "engine": "vllm", "models": known_as},
            {"name": "dead", "url": f"http://127.0.0.1:{free_port()}", "engine": "vllm", "models": ["m"]},
        ]
        models = {"m": {"aliases": ["gpt-4o-mini"]}}
        with serving(tmp_path_factory.mktemp("apis"), backends, models=models) as balancer:
            yield balancer


def _asked(balancer: Balancer, path: str, **body: Any) -> Answer:
    answer = ask(balancer.port, path, {"model": "m", **body})
    assert answer.status == 200, answer
    assert answer.fields["x-gpubalancer-backend"] == "engine"
    assert answer.fields["x-request-id"]
    return answer


def test_a_chat(balancer: Balancer) -> None:
    """The answer, its usage and the log's tokens agree."""
    answer = _asked(balancer, "/v1/chat/completions", messages=MESSAGES, max_tokens=7)
    said = answer.json()
    assert said["choices"][0]["message"]["role"] == "assistant"
    assert said["usage"]["completion_tokens"] == 7
    line = balancer.logged(request_id=answer.fields["x-request-id"])
    assert (line["api"], line["model"], line["completion_tokens"]) == ("chat", "m", 7)
    assert line["prompt_tokens"] == said["usage"]["prompt_tokens"]


def test_a_chat_as_a_stream(balancer: Balancer) -> None:
    """The events arrive whole and end with [DONE]."""
    answer = _asked(balancer, "/v1/chat/completions", messages=MESSAGES, max_tokens=7, stream=True)
    events = answer.body.split(b"\n\n")
    assert answer.fields["content-type"].startswith("text/event-stream")
    assert all(event.startswith(b"data: ") for event in events[:-1])
    assert events[-2:] == [b"data: [DONE]", b""]


def test_a_completion(balancer: Balancer) -> None:
    """The older API works too."""
    assert _asked(balancer, "/v1/completions", prompt="hello", max_tokens=3).json()["choices"][0]["text"]


def test_embeddings(balancer: Balancer) -> None:
    """As many vectors come as texts were sent."""
    assert len(_asked(balancer, "/v1/embeddings", input=["one", "two"]).json()["data"]) == 2


def test_a_response(balancer: Balancer) -> None:
    """The Responses API works."""
    assert _asked(balancer, "/v1/responses", input="hello", max_output_tokens=4).json()["object"] == "response"


def test_a_message(balancer: Balancer) -> None:
    """Anthropic's API works, and its tokens are logged."""
    answer = _asked(balancer, "/v1/messages", messages=MESSAGES, max_tokens=4)
    assert (answer.json()["type"], answer.json()["usage"]["output_tokens"]) == ("message", 4)
    line = balancer.logged(request_id=answer.fields["x-request-id"])
    assert (line["api"], line["completion_tokens"]) == ("messages", 4)


@pytest.mark.parametrize(
    ("path", "body", "status", "code"),
    [
        ("/v1/chat/completions", {"model": "nothing", "messages": MESSAGES}, 404, "model_not_found"),
        ("/v1/chat/completions", {"messages": MESSAGES}, 400, "missing_model"),
        ("/v1/chat/completions", b"{", 400, "invalid_json"),
        ("/v1/nothing", {"model": "m"}, 404, "unknown_path"),
        ("/admin/v1/fleet", {"model": "m"}, 404, "unknown_path"),
    ],
)
def test_an_error_in_openais_shape(balancer: Balancer, path: str, body: Any, status: int, code: str) -> None:
    """The balancer's own errors have the four keys that SDKs read."""
    answer = ask(balancer.port, path, body)
    error = answer.json()["error"]
    assert (answer.status, error["code"], error["type"]) == (status, code, "invalid_request_error")
    assert set(error) == {"message", "type", "code", "param"}


def test_an_error_in_anthropics_shape(balancer: Balancer) -> None:
    """On its path the error has Anthropic's shape."""
    answer = ask(balancer.port, "/v1/messages", {"model": "nothing", "messages": MESSAGES, "max_tokens": 1})
    assert (answer.status, answer.json()["type"]) == (404, "error")
    assert answer.json()["error"]["type"] == "not_found_error"


def test_an_engines_own_error_passes_through(balancer: Balancer) -> None:
    """What the engine refuses comes back with its own status and words, and is tried once only."""
    answer = ask(balancer.port, body=chat(max_tokens=-1))
    assert answer.status == 400
    assert answer.fields["x-gpubalancer-backend"] == "engine"
    assert "max_tokens" in answer.body.decode()


def test_the_models(balancer: Balancer) -> None:
    """All public names are listed and found singly, aliases and the server's own names are not listed."""
    listed = ask(balancer.port, "/v1/models").json()
    assert [model["id"] for model in listed["data"]] == ["m", "plain"]
    assert ask(balancer.port, "/v1/models/plain").json()["id"] == "plain"
    answer = ask(balancer.port, "/v1/models/vendor")
    assert (answer.status, answer.json()["error"]["code"]) == (404, "model_not_found")


def test_an_alias(balancer: Balancer) -> None:
    """A request by the alias is served by the model, whose name is logged."""
    answer = ask(balancer.port, body=chat(model="gpt-4o-mini", max_tokens=2))
    assert answer.status == 200
    assert balancer.logged(request_id=answer.fields["x-request-id"])["model"] == "m"


def test_a_dead_backend_is_passed_over(balancer: Balancer) -> None:
    """Requests that meet the dead backend first are served by the other."""
    answers = [ask(balancer.port, body=chat(max_tokens=1)) for _ in range(30)]
    assert {(answer.status, answer.fields["x-gpubalancer-backend"]) for answer in answers} == {(200, "engine")}
    assert {int(answer.fields["x-gpubalancer-attempts"]) for answer in answers} <= {1, 2}
