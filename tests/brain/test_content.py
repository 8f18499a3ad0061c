"""Bodies of every API become one record, and nothing of them is left unread."""

import time
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpubalancer.brain.content import ANSWERS_LIMIT, LOOP_BYTES, TOKENS_LIMIT, Content, heavy, read_content
from gpubalancer.brain.content_parts import Message
from gpubalancer.domain.errors import RequestError

APIS = ("chat", "completions", "responses", "embeddings", "rerank", "messages", "audio", "images", "ollama", "claimed")


def refused(api: str, fields: dict[str, Any]) -> str | None:
    """The field that a body is refused for."""
    with pytest.raises(RequestError) as caught:
        read_content(api, fields)
    assert (caught.value.code, caught.value.status) == ("invalid_json", 400)
    return caught.value.param


def chat(**fields: object) -> Content:
    """A chat of one word, with further fields."""
    return read_content("chat", {"model": "m", "messages": [{"role": "user", "content": "hi"}], **fields})


def test_a_chat() -> None:
    """Messages in order, tools as JSON text, limits as numbers."""
    read = chat(
        messages=[{"role": "system", "content": "be kind"}, {"role": "user", "content": "hi"}],
        tools=[{"type": "function", "function": {"name": "f", "parameters": {"b": 1, "a": 2}}}],
        n=2,
        max_tokens=10,
        max_completion_tokens=20,
        reasoning_effort="high",
    )
    assert read.messages == (Message("system", ("be kind",)), Message("user", ("hi",)))
    assert read.tools == ('{"type":"function","function":{"name":"f","parameters":{"b":1,"a":2}}}',)
    assert (read.answers, read.inputs, read.max_tokens, read.reasoning_effort) == (2, 1, 20, "high")
    assert read.conversation


def test_older_functions_are_tools() -> None:
    """`functions` counts as `tools` does."""
    assert chat(functions=[{"name": "f"}]).tools == ('{"name":"f"}',)


@pytest.mark.parametrize(
    ("prompt", "texts", "token_ids", "inputs"),
    [
        ("a", ["a"], 0, 1),
        (["a", "b"], ["a", "b"], 0, 2),
        ([1, 2, 3], [], 3, 1),
        ([[1, 2], [3]], [], 3, 2),
        (["a", [1, 2]], ["a"], 2, 2),
    ],
)
def test_prompts_of_completions(prompt: object, texts: list[str], token_ids: int, inputs: int) -> None:
    """A text, a list of texts, token ids or a list of those; answers are counted for each prompt."""
    read = read_content("completions", {"prompt": prompt, "n": 2, "best_of": 3})
    assert [message.texts[0] for message in read.messages] == texts
    assert (read.token_ids, read.inputs, read.answers) == (token_ids, inputs, 3 * inputs)
    assert not read.conversation


def test_a_suffix_is_read_too() -> None:
    """Fill-in-the-middle reads what stands behind as well."""
    read = read_content("completions", {"prompt": "a", "suffix": "b"})
    assert {message.texts for message in read.messages} == {("a",), ("b",)}


def test_responses() -> None:
    """Instructions and all kinds of items, with `max_output_tokens` and the effort of `reasoning`."""
    read = read_content(
        "responses",
        {"instructions": "be kind", "input": "hi", "max_output_tokens": 9, "reasoning": {"effort": "low"}},
    )
    assert [message.texts for message in read.messages] == [("be kind",), ("hi",)]
    assert (read.max_tokens, read.reasoning_effort) == (9, "low")


def test_anthropic() -> None:
    """The system prompt is the first message."""
    read = read_content(
        "messages", {"system": "be kind", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 5}
    )
    assert read.messages == (Message("system", ("be kind",)), Message("user", ("hi",)))
    assert read.max_tokens == 5


def test_rerank() -> None:
    """The query first, then the documents, which may be objects."""
    read = read_content("rerank", {"query": "q", "documents": ["a", {"text": "b"}]})
    assert [message.texts for message in read.messages] == [("q",), ("a",), ("b",)]
    assert read.inputs == 2


def test_embeddings() -> None:
    """Inputs as texts, token ids, or as a conversation where the engine takes one."""
    assert read_content("embeddings", {"input": ["a", "b", "c"]}).inputs == 3
    assert read_content("embeddings", {"input": [7, 8]}).token_ids == 2
    assert read_content("embeddings", {"messages": [{"role": "user", "content": "a"}]}).messages[0].texts == ("a",)


@pytest.mark.parametrize(
    ("fields", "texts", "limit"),
    [
        ({"messages": [{"role": "user", "content": "a"}], "options": {"num_predict": 7}}, [("a",)], 7),
        ({"system": "s", "prompt": "p", "options": {"num_predict": -1}}, [("s",), ("p",)], None),
        ({"input": ["a", "b"]}, [("a",), ("b",)], None),
        ({"prompt": "p"}, [("p",)], None),
    ],
)
def test_ollama(fields: dict[str, Any], texts: list[tuple[str, ...]], limit: int | None) -> None:
    """Chat, generate and both embeds, each by its own fields; -1 is no limit."""
    read = read_content("ollama", fields)
    assert [message.texts for message in read.messages] == texts
    assert read.max_tokens == limit


def test_ollama_context_and_images() -> None:
    """Generate takes up a context of token ids, and pictures."""
    read = read_content("ollama", {"prompt": "p", "context": [1, 2, 3], "images": ["iVBORw0KGgo="]})
    assert read.token_ids == 3
    assert [media.kind for message in read.messages for media in message.media] == ["image"]


def test_speech_and_pictures() -> None:
    """What is to be spoken or painted is a text."""
    assert read_content("audio", {"input": "say", "instructions": "slowly"}).messages[-1].texts == ("say",)
    assert read_content("images", {"prompt": "paint", "n": 3}).answers == 3


def test_every_other_string_is_an_extra() -> None:
    """Strings of fields that are not prompt, unknown ones included, are kept for detectors."""
    read = chat(metadata={"note": "one"}, documents=[{"title": "two"}, ["three"]], stop="four", seed=1)
    assert read.extras == ("one", "two", "three", "four")
    assert read_content("claimed", {"a": "x"}).extras == ("x",)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"prompt_cache_key": "k", "session_id": "s", "user": "u"}, "k"),
        ({"session_id": "s", "user": "u"}, "s"),
        ({"user": "u"}, "u"),
        ({"user": ""}, "hi"),
        ({"user": 7}, "hi"),
        ({}, "hi"),
    ],
)
def test_affinity(fields: dict[str, Any], expected: str) -> None:
    """The first of three fields, else the conversation's head."""
    assert chat(**fields).affinity == expected


def test_the_head_is_system_and_first_user_message() -> None:
    """Later turns do not change a conversation's head."""
    opening = [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}]
    later = [*opening, {"role": "assistant", "content": "a"}, {"role": "user", "content": "v"}]
    assert chat(messages=opening).affinity == chat(messages=later).affinity == "s\nu"
    assert read_content("claimed", {}).affinity == ""


@pytest.mark.parametrize(
    ("api", "fields", "param"),
    [
        ("chat", {"messages": None}, "messages"),
        ("chat", {"messages": {}}, "messages"),
        ("chat", {"messages": "hi"}, "messages"),
        ("chat", {"messages": ["hi"]}, "messages[0]"),
        ("chat", {"messages": [{"content": "hi"}]}, "messages[0].role"),
        ("chat", {"messages": [{"role": 1, "content": "hi"}]}, "messages[0].role"),
        ("chat", {"messages": [{"role": "user", "content": 1}]}, "messages[0].content"),
        ("chat", {"messages": [{"role": "user", "content": {}}]}, "messages[0].content"),
        ("chat", {"messages": [{"role": "user", "content": [1]}]}, "messages[0].content"),
        ("chat", {"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages[0].content"),
        ("chat", {"messages": [], "n": -1}, "n"),
        ("chat", {"messages": [], "n": 0}, "n"),
        ("chat", {"messages": [], "n": 1e30}, "n"),
        ("chat", {"messages": [], "n": ANSWERS_LIMIT + 1}, "n"),
        ("chat", {"messages": [], "n": True}, "n"),
        ("chat", {"messages": [], "n": "8"}, "n"),
        ("chat", {"messages": [], "max_tokens": 10**18}, "max_tokens"),
        ("chat", {"messages": [], "max_tokens": TOKENS_LIMIT + 1}, "max_tokens"),
        ("chat", {"messages": [], "max_tokens": 1.5}, "max_tokens"),
        ("chat", {"messages": [], "max_completion_tokens": -2}, "max_completion_tokens"),
        ("chat", {"messages": [], "reasoning_effort": 3}, "reasoning_effort"),
        ("chat", {"messages": [], "tools": {}}, "tools"),
        ("completions", {"prompt": 1}, "prompt"),
        ("completions", {"prompt": []}, "prompt"),
        ("completions", {"prompt": [1, "a"]}, "prompt"),
        ("completions", {"prompt": [-1]}, "prompt"),
        ("completions", {"prompt": [[]]}, "prompt"),
        ("completions", {"prompt": [[1, True]]}, "prompt"),
        ("completions", {"prompt": "a", "best_of": -1}, "best_of"),
        ("embeddings", {"input": [None]}, "input"),
        ("rerank", {"query": 1, "documents": ["a"]}, "query"),
        ("responses", {"input": 1}, "input"),
        ("responses", {"input": [1]}, "input[0]"),
        ("responses", {"instructions": 1}, "instructions"),
        ("messages", {"messages": [], "system": 1}, "system"),
        ("ollama", {"prompt": "p", "options": {"num_predict": 1e30}}, "num_predict"),
    ],
)
def test_what_every_engine_refuses_is_refused(api: str, fields: dict[str, Any], param: str) -> None:
    """Wrong types and impossible numbers are 400 with the field's name."""
    assert refused(api, fields) == param


def nested(depth: int) -> list[Any]:
    """Lists in lists."""
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


def test_deep_nesting_is_refused() -> None:
    """More levels than any API has are refused, wherever they stand."""
    assert refused("chat", {"messages": [], "x": nested(900)}) == "x"
    assert refused("chat", {"messages": [], "tools": [nested(900)]}) == "tools"
    part = {"type": "novel", "x": nested(900)}
    assert refused("chat", {"messages": [{"role": "user", "content": [part]}]}) == "messages[0].content"
    assert chat(x=nested(50)).extras == ()


def test_numbers_that_engines_take() -> None:
    """A whole number may be written with a point; null is nothing; -1 is llama.cpp's "no limit"."""
    assert chat(n=2.0, max_tokens=None).answers == 2
    assert chat(max_tokens=-1).max_tokens is None
    assert chat(max_tokens=0).max_tokens == 0


VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text(max_size=6),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                ["type", "text", "role", "content", "image_url", "url", "source", "data", "input_audio", "tool_calls",
                 "function", "name", "arguments", "input", "id", "output", "tool_result", "images"]
            ),
            inner | st.sampled_from(["text", "image_url", "image", "base64", "tool_use", "tool_result", "input_audio"]),
            max_size=4,
        )
    ),
    max_leaves=20,
)  # fmt: skip
FIELDS = st.dictionaries(
    st.sampled_from(
        ["messages", "prompt", "input", "query", "documents", "system", "instructions", "tools", "functions", "n",
         "best_of", "max_tokens", "max_completion_tokens", "options", "context", "images", "reasoning", "user",
         "reasoning_effort", "suffix", "other"]
    ),
    VALUES,
)  # fmt: skip


@given(st.sampled_from(APIS), FIELDS, st.lists(VALUES, max_size=3), st.booleans())
def test_no_json_raises_anything_else(api: str, fields: dict[str, Any], messages: list[Any], framed: bool) -> None:
    """Whatever the JSON, the body is read or refused with `invalid_json`."""
    if framed:
        fields["messages"] = [{"role": "user", "content": value, "tool_calls": value} for value in messages]
    try:
        read = read_content(api, fields)
    except RequestError as error:
        assert error.code == "invalid_json"  # noqa: PT017
        assert error.param  # noqa: PT017
    else:
        assert read.answers >= 1
        assert read.inputs >= 1
        assert read.token_ids >= 0
        assert all(isinstance(text, str) for message in read.messages for text in (message.role, *message.texts))


def strings(value: object) -> set[str]:
    """All strings of a JSON value but keys."""
    if isinstance(value, str):
        return {value}
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return set().union(*map(strings, inner)) if inner else set()


@given(st.sampled_from(APIS), VALUES)
def test_nothing_crosses_unread(api: str, value: object) -> None:
    """A string in a part, a field of a message or a field of the body that no API has stands in texts or extras."""
    message = {"role": "user", "content": [{"type": "novel", "x": value}], "novel": value}
    known = {"messages": [message], "prompt": "p", "query": "q", "documents": ["d"]}
    read = read_content(api, {**known, "input": [message] if api == "responses" else "i", "novel": value})
    wanted = {text for text in strings(value) if not text.startswith("data:")}
    assert wanted <= set(read.extras)
    for each in read.messages:
        if len(each.texts) + len(each.extras) > 1:
            assert wanted <= {*each.texts, *each.extras}


def test_heavy_bodies_go_to_a_thread() -> None:
    """By size or by the number of values that they may hold, not for one long text."""
    assert heavy(b"[" + b"1," * 5000 + b"1]")
    assert heavy(b"{" * 5000)
    assert heavy(b"a" * (LOOP_BYTES + 1))
    assert not heavy(orjson.dumps({"messages": [{"role": "user", "content": "word " * 20_000}]}))


@pytest.mark.parametrize(
    "body",
    [
        {"messages": [{"role": "user", "content": "a"}] * 650},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": ""}] * 650}]},
        {"messages": [], "x": [[1]] * 950},
        {"messages": [], "x": [{"a": ""}] * 950},
        {"messages": [{"role": "user", "content": "a", "images": [""] * 1900}]},
        {"messages": [{"role": "user", "content": "a" * (LOOP_BYTES - 100)}]},
    ],
)
def test_no_light_body_holds_the_loop(body: dict[str, Any]) -> None:
    """The worst bodies that are read on the event loop take less than 5 ms of CPU."""
    content = orjson.dumps(body)
    assert not heavy(content)
    best_s = 1.0
    for _ in range(5):
        start_s = time.thread_time()
        read_content("chat", orjson.loads(content))
        best_s = min(best_s, time.thread_time() - start_s)
    assert best_s < 0.005
