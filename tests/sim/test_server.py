"""The paths of a simulated server, on real sockets."""

import asyncio
from typing import Any

import orjson
import pytest
from prometheus_client.parser import text_string_to_metric_families

from .live import Live, with_server

CHAT = "/v1/chat/completions"
HELLO = [{"role": "user", "content": "hello there"}]
ASKS: dict[str, dict[str, Any]] = {
    CHAT: {"model": "m", "messages": HELLO, "max_tokens": 4},
    "/v1/completions": {"model": "m", "prompt": "hello there", "max_tokens": 4},
    "/v1/messages": {"model": "m", "messages": HELLO, "max_tokens": 4},
    "/v1/messages/count_tokens": {"model": "m", "messages": HELLO},
    "/v1/responses": {"model": "m", "input": "hello there", "max_output_tokens": 4},
    "/v1/embeddings": {"model": "m", "input": "hello there"},
    "/v1/rerank": {"model": "m", "query": "hello", "documents": ["hello there", "bye"]},
}


@pytest.mark.parametrize("path", sorted(ASKS))
def test_every_path_answers(path: str) -> None:
    """Each API answers its simplest request, under each of the server's model names."""

    async def story(live: Live) -> None:
        for model in ("m", "also-m"):
            status, answer = await live.post(path, ASKS[path] | {"model": model})
            assert status == 200
            assert answer.get("model", model) == model

    with_server(story)


@pytest.mark.parametrize("path", sorted(ASKS))
def test_unknown_models_and_bad_bodies_are_refused(path: str) -> None:
    """Each API answers 404 for a model not served, and 400 for what is not JSON or lacks a field."""

    async def story(live: Live) -> None:
        status, answer = await live.post(path, ASKS[path] | {"model": "x"})
        assert status == 404
        assert answer["error"]["message"] == "The model `x` does not exist."
        for bad in (b"{not json", b"[]", b'{"model": "m"}', b""):
            status, answer = await live.post(path, bad)
            assert status == 400
            assert answer["error"]["type"] in {"BadRequestError", "invalid_request_error"}

    with_server(story)


@pytest.mark.parametrize("path", [CHAT, "/v1/completions"])
def test_the_same_request_gets_the_same_answer(path: str) -> None:
    """Twice the same words give the same text; another seed gives another."""

    async def story(live: Live) -> None:
        answers = [(await live.post(path, ASKS[path] | {"max_tokens": 30} | more))[1] for more in ({}, {}, {"seed": 8})]
        one, same, other = (answer["choices"][0] for answer in answers)
        assert one == same
        assert one != other
        assert answers[0]["id"] != answers[1]["id"]

    with_server(story)


def test_a_context_too_long_is_refused() -> None:
    """A prompt, or a prompt with the output asked for, beyond the context is 400 with the numbers in the sentence."""

    async def story(live: Live) -> None:
        status, answer = await live.post(CHAT, ASKS[CHAT] | {"max_tokens": 100})
        assert status == 400
        assert answer["error"]["message"].startswith("'max_tokens' or 'max_completion_tokens' is too large: 100.")
        status, answer = await live.post("/v1/embeddings", {"model": "m", "input": "a " * 100})
        assert status == 400
        assert answer["error"]["message"].startswith("This model's maximum context length is 64 tokens.")

    with_server(story, context_tokens=64)


def test_a_full_queue_is_503_without_retry_after() -> None:
    """One slot and one place to wait: of three simultaneous calls one is refused, nothing generated, and counted."""

    async def story(live: Live) -> None:
        body = ASKS[CHAT] | {"max_tokens": 20, "ignore_eos": True}

        async def call() -> tuple[int, bool]:
            async with live.session.post(live.server.url + CHAT, data=orjson.dumps(body)) as answer:
                return answer.status, "retry-after" in answer.headers

        results = await asyncio.gather(*(call() for _ in range(3)))
        assert sorted(results) == [(200, False), (200, False), (503, False)]
        assert b'reason="max_num_queued_reqs"} 1.0' in live.server.metrics.page()

    with_server(story, slots=1, queue_limit=1, speedup=20.0)


def test_the_key_is_demanded_on_v1_paths_only() -> None:
    """Without the key, or with another, /v1 paths are 401; health and metrics are open."""

    async def story(live: Live) -> None:
        assert await live.post(CHAT, ASKS[CHAT]) == (401, {"error": "Unauthorized"})
        assert (await live.post(CHAT, ASKS[CHAT], authorization="Bearer no"))[0] == 401
        assert (await live.post(CHAT, ASKS[CHAT], **{"x-api-key": "k"}))[0] == 401
        assert (await live.post(CHAT, ASKS[CHAT], authorization="Bearer k"))[0] == 200
        assert (await live.post("/v1/messages", ASKS["/v1/messages"], **{"x-api-key": "k"}))[0] == 200
        assert (await live.get("/v1/models"))[0] == 401
        assert [(await live.get(path))[0] for path in ("/health", "/ping", "/metrics", "/version")] == [200] * 4

    with_server(story, api_key="k")


def test_unknown_paths_and_methods() -> None:
    """A path that vLLM does not have is 404 and a wrong method 405, in its framework's shape."""

    async def story(live: Live) -> None:
        assert await live.get("/nowhere") == (404, {"detail": "Not Found"})
        assert await live.get(CHAT) == (405, {"detail": "Method Not Allowed"})

    with_server(story)


def test_models_and_tokenize() -> None:
    """The models are listed with the context served, and a text's tokens are counted."""

    async def story(live: Live) -> None:
        _, models = await live.get("/v1/models")
        assert [(card["id"], card["max_model_len"]) for card in models["data"]] == [("m", 500), ("also-m", 500)]
        _, tokens = await live.post("/tokenize", {"prompt": "one two three"})
        assert (tokens["count"], len(tokens["tokens"]), tokens["max_model_len"]) == (3, 3, 500)
        _, count = await live.post("/v1/messages/count_tokens", ASKS["/v1/messages/count_tokens"])
        _, message = await live.post("/v1/messages", ASKS["/v1/messages"])
        assert count == {"input_tokens": message["usage"]["input_tokens"]}

    with_server(story, context_tokens=500)


def test_the_caller_s_request_id_is_the_answer_s() -> None:
    """`x-request-id` becomes part of the id; without it the server's name is."""

    async def story(live: Live) -> None:
        _, named = await live.post(CHAT, ASKS[CHAT], **{"x-request-id": "abc"})
        _, counted = await live.post(CHAT, ASKS[CHAT])
        assert (named["id"], counted["id"]) == ("chatcmpl-abc", "chatcmpl-e1-1")

    with_server(story)


def test_the_metrics_page_follows_the_traffic() -> None:
    """Two calls later the page, as a scraper parses it, has their tokens."""

    async def story(live: Live) -> None:
        used = [(await live.post(CHAT, ASKS[CHAT]))[1]["usage"] for _ in range(2)]
        _, text = await live.get("/metrics")
        values = {
            sample.name: sample.value for family in text_string_to_metric_families(text) for sample in family.samples
        }
        assert values["vllm:prompt_tokens_total"] == sum(usage["prompt_tokens"] for usage in used)
        assert values["vllm:generation_tokens_total"] == sum(usage["completion_tokens"] for usage in used)
        assert values["vllm:num_requests_running"] == values["vllm:num_requests_waiting"] == 0

    with_server(story)


def test_errors_to_order_are_seeded() -> None:
    """A share of the calls fails with 500, and the same ones for the same seed."""
    seen: list[list[int]] = []

    async def story(live: Live) -> None:
        seen.append([(await live.post("/v1/completions", ASKS["/v1/completions"]))[0] for _ in range(40)])

    for seed in (1, 1, 2):
        with_server(story, error_fraction=0.5, seed=seed)
    assert set(seen[0]) == {200, 500}
    assert seen[0] == seen[1] != seen[2]


def test_a_silent_server_has_no_metrics() -> None:
    """Where metrics are off, the page and the version are not found, and everything else works."""

    async def story(live: Live) -> None:
        assert [(await live.get(path))[0] for path in ("/metrics", "/version", "/health")] == [404, 404, 200]

    with_server(story, visible=False)
