"""Answers on a socket: streams, whole ones, broken ones, and clients that leave."""

import asyncio

import aiohttp
import orjson
import pytest

from gpubalancer.sim.words import tokenize

from .live import Live, chunks, with_server

CHAT = "/v1/chat/completions"
HELLO = [{"role": "user", "content": "hello there"}]
LONG = {"model": "m", "messages": HELLO, "max_tokens": 5000, "ignore_eos": True}


def test_a_stream_says_what_the_whole_answer_says() -> None:
    """Streamed pieces add up to the whole answer: one event per token, the same usage, the same reason."""

    async def story(live: Live) -> None:
        body = {"model": "m", "messages": HELLO, "max_tokens": 40}
        status, whole = await live.post(CHAT, body)
        lines = await live.stream(CHAT, body | {"stream": True, "stream_options": {"include_usage": True}})
        assert status == 200
        assert lines[-1] == b"data: [DONE]"
        events = chunks(lines)
        assert events[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
        said = [event["choices"][0] for event in events[1:-1]]
        assert len(said) == events[-1]["usage"]["completion_tokens"] == whole["usage"]["completion_tokens"]
        assert "".join(each["delta"]["content"] for each in said) == whole["choices"][0]["message"]["content"]
        assert [each["finish_reason"] for each in said[:-1]] == [None] * (len(said) - 1)
        assert said[-1]["finish_reason"] == whole["choices"][0]["finish_reason"]

    with_server(story)


def test_an_interval_joins_tokens_into_one_event() -> None:
    """With an interval of 8 the first token comes alone, then eight at a time and the rest: the same text and usage."""

    async def story(live: Live) -> None:
        body = {"model": "m", "messages": HELLO, "max_tokens": 20, "ignore_eos": True}
        _, whole = await live.post(CHAT, body)
        asked = body | {"stream": True, "stream_options": {"include_usage": True}}
        events = chunks(await live.stream(CHAT, asked))
        said = [event["choices"][0] for event in events[1:-1]]
        words = [len(tokenize(each["delta"]["content"])) for each in said]
        assert (words[0], sum(words), len(words)) == (1, 20, 4)
        assert "".join(each["delta"]["content"] for each in said) == whole["choices"][0]["message"]["content"]
        assert [each["finish_reason"] for each in said] == [None, None, None, "length"]
        assert events[-1]["usage"]["completion_tokens"] == 20

    with_server(story, stream_interval=8, speedup=2.0)


def test_choices_of_a_stream_are_told_apart() -> None:
    """Two prompts with two answers each stream as four numbered choices, each ended once."""

    async def story(live: Live) -> None:
        body = {"model": "m", "prompt": ["a", "b"], "n": 2, "max_tokens": 6, "stream": True, "ignore_eos": True}
        said = [event["choices"][0] for event in chunks(await live.stream("/v1/completions", body))]
        assert [sum(c["index"] == index for c in said) for index in range(4)] == [6] * 4
        assert sorted(c["index"] for c in said if c["finish_reason"] == "length") == [0, 1, 2, 3]
        _, whole = await live.post("/v1/completions", body | {"stream": False})
        for choice in whole["choices"]:
            assert choice["text"] == "".join(c["text"] for c in said if c["index"] == choice["index"])

    with_server(story)


def test_a_known_prefix_shows_in_usage_and_stream() -> None:
    """The second identical prompt reports its cached tokens, in OpenAI's usage and in Anthropic's first event."""

    async def story(live: Live) -> None:
        messages = [{"role": "user", "content": "stone " * 100}]
        _, cold = await live.post(CHAT, {"model": "m", "messages": messages, "max_tokens": 2})
        _, warm = await live.post(CHAT, {"model": "m", "messages": messages, "max_tokens": 2})
        assert cold["usage"]["prompt_tokens_details"] == {"cached_tokens": 0}
        assert warm["usage"]["prompt_tokens_details"] == {"cached_tokens": 96}
        lines = await live.stream("/v1/messages", {"model": "m", "messages": messages, "max_tokens": 2, "stream": True})
        started = chunks(lines)[0]["message"]["usage"]
        assert started["cache_read_input_tokens"] == 96

    with_server(story)


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_frees_the_engine(stream: bool) -> None:
    """Closing the connection during an answer, streamed or not, empties the engine before one more step has passed."""

    async def story(live: Live) -> None:
        engine = live.server.engine
        async with aiohttp.ClientSession() as session:
            asking = asyncio.ensure_future(
                session.post(live.server.url + CHAT, data=orjson.dumps(LONG | {"stream": stream}))
            )
            await live.until(lambda: any(request.produced for request in engine.running))
            (request,) = engine.running
            produced = request.produced
            if stream:
                (await asking).close()
            else:
                asking.cancel()
            await live.until(lambda: engine.load == 0)
        assert request.produced <= produced + 1
        assert engine.pool.held == 0
        assert b'finished_reason="abort",model_name="m"} 1.0' in live.server.metrics.page()

    with_server(story, speedup=1.0)


def test_a_stream_breaks_where_ordered() -> None:
    """With `fail_after_tokens` a stream gives so many tokens, then the connection ends inside the message."""

    async def story(live: Live) -> None:
        got = b""
        async with live.session.post(live.server.url + CHAT, data=orjson.dumps(LONG | {"stream": True})) as answer:
            while b'"finish_reason"' in (line := await answer.content.readline()):
                got += line + await answer.content.readline()
                if got.count(b"data: ") == 4:
                    break
            with pytest.raises(aiohttp.ClientPayloadError):
                await answer.content.readline()
        said = [event["choices"][0] for event in chunks(got.split(b"\n"))[1:]]
        assert len(said) == 3
        assert all(each["finish_reason"] is None for each in said)
        await live.until(lambda: live.server.engine.load == 0)
        status, _ = await live.post(CHAT, LONG | {"max_tokens": 9})
        assert status == 200

    with_server(story, fail_after_tokens=3)


def test_a_stopped_server_says_abort() -> None:
    """A server that shuts down ends its streams as vLLM does: `abort`, then the end mark."""

    async def story(live: Live) -> None:
        async with live.session.post(live.server.url + CHAT, data=orjson.dumps(LONG | {"stream": True})) as answer:
            await answer.content.readline()
            live.server.driver.abort_all()
            lines = [line for line in (await answer.read()).split(b"\n") if line]
        assert lines[-1] == b"data: [DONE]"
        assert chunks(lines)[-1]["choices"][0]["finish_reason"] == "abort"

    with_server(story, speedup=1.0)
