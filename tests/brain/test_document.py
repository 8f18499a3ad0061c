"""JSON bodies: one meaning, and only the model's bytes ever change."""

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpubalancer.brain.document import Document, model_in_form, places_of, read_document
from gpubalancer.brain.routes import Route, find_route
from gpubalancer.domain.errors import RequestError


def route(path: str = "/v1/chat/completions") -> Route:
    """A route of the table."""
    found = find_route(path)
    assert found is not None
    return found


def document(content: bytes, path: str = "/v1/chat/completions") -> Document:
    """A body, read."""
    return read_document(content, route(path))


def renamed(read: Document, name: str, *, with_usage: bool = False) -> bytes:
    """Its body with another model's name."""
    return b"".join(read.body(name, with_usage=with_usage))


def asking(content: bytes) -> bytes:
    """A body that asks for its usage."""
    return b"".join(document(content).body(with_usage=True))


def refused(content: bytes) -> str:
    """The code with which a body is refused."""
    with pytest.raises(RequestError) as caught:
        document(content)
    return caught.value.code


def test_a_body_is_read() -> None:
    """Model and stream are what the body says."""
    read = document(b'{"model": "llama", "stream": true}')
    assert (read.asked, read.streamed) == ("llama", True)
    assert not document(b'{"model": "llama"}').streamed
    assert not document(b'{"model": "llama", "stream": null}').streamed


def test_streams_by_default() -> None:
    """Ollama's chat streams unless the body says otherwise."""
    assert document(b'{"model": "a"}', "/api/chat").streamed
    assert not document(b'{"model": "a", "stream": false}', "/api/chat").streamed


@pytest.mark.parametrize(
    "content",
    [
        b"", b"{", b"[]", b'"a"', b"1", b"null", b'{"model": "a"} x', b'{"model": "a",}', b"{'model': 'a'}", b"\xff",
        b'{"model": "a\x00"}', b'{"model": "a", "x": NaN}', b'{"model": "a", "x": Infinity}', b"\xef\xbb\xbf{}",
        b'{"model": "a", "stream": 1}', b'{"model": "a", "stream": "true"}',
    ],
)  # fmt: skip
def test_what_is_no_json_object_is_refused(content: bytes) -> None:
    """Other JSON, broken JSON and what only some parsers take is `invalid_json`."""
    assert refused(content) == "invalid_json"


@pytest.mark.parametrize("content", [b"{}", b'{"model": ""}', b'{"model": null}', b'{"model": 1}', b'{"model": ["a"]}'])
def test_a_body_without_a_model_is_refused(content: bytes) -> None:
    """The model must be a name."""
    assert refused(content) == "missing_model"


@pytest.mark.parametrize(
    "content",
    [
        b'{"model": "a", "model": "b"}',
        b'{"model": "a", "model": "a"}',
        b'{"model": "a", "mod\\u0065l": "b"}',
        b'{"mod\\u0065l": "b", "model": "a"}',
        b'{"model": "a", "\\u006dodel": "b"}',
        b'{"model": "a", "\\u006Dodel": "b"}',
        b'{"mod\\u0065l": "a", "\\u006dodel": "b"}',
        b'{"model": "a", "stream": true, "stream": false}',
        b'{"model": "a", "stream": true, "str\\u0065am": false}',
    ],
)
def test_a_key_given_twice_is_refused(content: bytes) -> None:
    """Two parsers could see two models, however the second key is spelt."""
    assert refused(content) == "invalid_json"


def test_a_nested_model_is_not_the_model() -> None:
    """Only the object's own key counts; another one inside is content."""
    read = document(b'{"tool": {"model": "x"}, "model": "llama"}')
    assert read.asked == "llama"
    assert renamed(read, "phi") == b'{"tool": {"model": "x"}, "model": "phi"}'


def test_a_model_within_a_prompt_is_text() -> None:
    """What looks like a key inside a string is not touched."""
    content = json.dumps({"prompt": '"model": "x"', "model": "llama"}).encode()
    assert renamed(document(content), "phi") == content.replace(b'"llama"', b'"phi"')


def test_a_model_longer_than_any_name_is_not_found() -> None:
    """It goes no further: neither into a table nor to another process."""
    assert refused(b'{"model": "%b"}' % (b"a" * 513)) == "model_not_found"
    assert document(b'{"model": "%b"}' % (b"a" * 512)).asked == "a" * 512


def test_very_deep_json_is_refused_or_read() -> None:
    """Depth never raises anything but `RequestError`."""
    deep = b'{"x": ' + b"[" * 5000 + b"]" * 5000 + b', "model": "a", "y": "model"}'
    assert refused(deep) == "invalid_json"


def test_the_same_name_changes_nothing() -> None:
    """The very bytes of the client go on where the name is the same."""
    content = b'{ "model" :"llama"}'
    read = document(content)
    assert read.body("llama")[0] is read.body()[0] is content


VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.text(max_size=8) | st.just('"model": "x"'),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5) | st.just("model"), inner, max_size=3)
    ),
    max_leaves=8,
)
TYPED = ("model", "stream", "n", "tools")
"""Keys of up to six letters whose values must be of a kind."""
BODIES = st.dictionaries(st.text(max_size=6).filter(lambda key: key not in TYPED), VALUES, max_size=4)
NAMES = st.text(min_size=1, max_size=12)


@given(BODIES, BODIES, NAMES, NAMES, st.booleans(), st.sampled_from([(",", ":"), (", ", ": "), (" ,\n", "\t: ")]))
def test_naming_replaces_the_models_bytes_only(
    before: dict[str, Any],
    after: dict[str, Any],
    asked: str,
    name: str,
    ascii_only: bool,
    separators: tuple[str, str],
) -> None:
    """For any valid body, the renamed one differs in the model's value and in no byte before or behind it."""
    before = {key: value for key, value in before.items() if key not in after}

    def dump(value: object) -> str:
        return json.dumps(value, ensure_ascii=ascii_only, separators=separators)

    first, last = dump(before)[:-1], dump(after)[1:]
    start = first + (separators[0] if before else "") + dump("model") + separators[1]
    end = (separators[0] if after else "") + last
    content = (start + dump(asked) + end).encode()
    read = document(content)
    assert read.asked == asked
    changed = renamed(read, name)
    assert json.loads(changed) == {**before, "model": name, **after}
    if name != asked:
        assert changed.startswith(start.encode())
        assert changed.endswith(end.encode())
        assert json.loads(changed[len(start.encode()) : len(changed) - len(end.encode())]) == name
    both = renamed(read, name, with_usage=True)
    assert json.loads(both) == {"stream_options": {"include_usage": True}, **before, "model": name, **after}
    # Read elsewhere, it comes in pieces and its places are known: the bytes are the same.
    pieces = tuple(content[at : at + 7] for at in range(0, len(content), 7))
    large = read._replace(pieces=pieces, places=places_of(content))
    assert renamed(large, name, with_usage=True) == both
    assert renamed(large, name) == changed
    assert large.body(asked) == pieces


@given(st.binary(max_size=60) | st.text('{}[]:,"\\model u0065strea', max_size=40).map(str.encode))
def test_any_bytes_are_a_document_or_refused(content: bytes) -> None:
    """Arbitrary bytes raise nothing but `RequestError`."""
    try:
        document(content)
    except RequestError as error:
        assert error.code in ("invalid_json", "missing_model")  # noqa: PT017


FORM = (
    b'--b\r\nContent-Disposition: form-data; name="model"\r\n\r\nwhisper\r\n'
    b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nRIFF'
)


def test_the_model_of_a_form() -> None:
    """The value of the part named `model` is found once it is whole."""
    assert model_in_form(FORM) == "whisper"
    assert model_in_form(FORM[:60]) is None
    assert model_in_form(FORM.replace(b'"model"', b"model")) == "whisper"
    assert model_in_form(FORM.replace(b'name="model"', b'name="x_model"')) is None
    with_type = FORM.replace(b"\r\n\r\nwhisper", b"\r\nContent-Type: text/plain\r\n\r\nwhisper")
    assert model_in_form(with_type) == "whisper"


def test_a_forms_values_name_no_model() -> None:
    """A value that looks like a part's head is none."""
    value = b'--b\r\nContent-Disposition: form-data; name="prompt"\r\n\r\nname="model"\r\n'
    assert model_in_form(value + FORM) == "whisper"
    assert model_in_form(value + b"--b\r\n\r\nother\r\n") is None


@pytest.mark.parametrize("line", [b'name="model"\r\n', b"name=model\r\na", b"\r\n\r\na\r\n", b'name="model"\r\n\r\n'])
def test_the_worst_forms_are_looked_through_at_once(line: bytes) -> None:
    """No repetition makes the search go back and forth: 64 KiB take less than 50 ms of CPU."""
    form = line * (65_536 // len(line))
    start_s = time.process_time()
    model_in_form(form)
    assert time.process_time() - start_s < 0.05


def test_what_is_to_be_tokenized_is_a_chat_or_a_prompt() -> None:
    """`/v1/tokenize` takes either body, as vLLM does."""
    chat = document(b'{"model": "a", "messages": [{"role": "user", "content": "hi"}]}', "/v1/tokenize")
    assert chat.said.conversation
    prompt = document(b'{"model": "a", "prompt": "hi"}', "/v1/tokenize")
    assert not prompt.said.conversation
    assert prompt.said.messages[0].texts == ("hi",)


@pytest.mark.parametrize(
    ("content", "asks"),
    [
        (b'{"model":"a","stream":true,"stream_options":{"include_usage":true}}', True),
        (b'{"model":"a","stream":true,"stream_options":{"include_usage":false}}', False),
        (b'{"model":"a","stream":true,"stream_options":{"include_usage":1}}', False),
        (b'{"model":"a","stream":true,"stream_options":null}', False),
        (b'{"model":"a","stream":true}', False),
    ],
)
def test_who_asks_for_usage(content: bytes, asks: bool) -> None:
    """Only true asks."""
    assert document(content).asks_usage is asks


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b'{"model":"a"}', b'{"stream_options":{"include_usage":true},"model":"a"}'),
        (b' {\n"model": "a" }', b' {"stream_options":{"include_usage":true},\n"model": "a" }'),
        (b'{"model":"a","stream_options": null }', b'{"model":"a","stream_options": {"include_usage":true} }'),
        (b'{"stream_options":{},"model":"a"}', b'{"stream_options":{"include_usage":true},"model":"a"}'),
        (b'{"stream_options":{ },"model":"a"}', b'{"stream_options":{"include_usage":true },"model":"a"}'),
        (
            b'{"stream_options":{"include_usage": false, "x":"\xc3\xa9"},"model":"a"}',
            b'{"stream_options":{"include_usage": true, "x":"\xc3\xa9"},"model":"a"}',
        ),
        (b'{"stream_options":{"x":1},"model":"a"}', b'{"stream_options":{"include_usage":true,"x":1},"model":"a"}'),
        (b'{"stream_options":7,"model":"a"}', b'{"stream_options":7,"model":"a"}'),
        (
            b'{"x":"\xc3\xa9\\u0041","stream_options":{"y":[1]},"model":"a"}',
            b'{"x":"\xc3\xa9\\u0041","stream_options":{"include_usage":true,"y":[1]},"model":"a"}',
        ),
        (
            b'{"x":{"stream_options":1},"model":"a"}',
            b'{"stream_options":{"include_usage":true},"x":{"stream_options":1},"model":"a"}',
        ),
        (
            b'{"stream_options":{"x":{"include_usage":false}},"model":"a"}',
            b'{"stream_options":{"include_usage":true,"x":{"include_usage":false}},"model":"a"}',
        ),
        (b'{"stream\\u005foptions":{},"model":"a"}', b'{"stream\\u005foptions":{"include_usage":true},"model":"a"}'),
    ],
)
def test_usage_is_asked_for_by_adding_bytes(content: bytes, expected: bytes) -> None:
    """Only what asks is added, at the top level; what the client says beside it stays byte for byte."""
    assert asking(content) == expected


@given(
    st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=5) | st.none(), max_size=4),
    st.none() | st.dictionaries(st.sampled_from(["include_usage", "x", "é"]), st.booleans() | st.none(), max_size=3),
    st.booleans(),
)
def test_a_body_that_asks_says_otherwise_the_same(
    others: dict[str, Any], options: dict[str, Any] | None, ascii_only: bool
) -> None:
    """Parsed again, the body asks, and everything else is what it was."""
    body = {**others, "model": "a", "stream": True, "stream_options": options}
    content = json.dumps(body, ensure_ascii=ascii_only).encode()
    assert json.loads(asking(content)) == {**body, "stream_options": {**(options or {}), "include_usage": True}}


@pytest.mark.parametrize(
    "content",
    [
        b'{"model":"a","stream_options":{},"stream_options":{"include_usage":true}}',
        b'{"model":"a","stream_options":{"include_usage":true,"include_usage":false}}',
    ],
)
def test_options_that_two_parsers_could_see_differently_are_refused(content: bytes) -> None:
    """A key given twice is refused here too."""
    assert refused(content) == "invalid_json"
