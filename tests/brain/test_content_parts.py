"""Parts of all APIs: text, media, extras."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpubalancer.brain.content_media import Media
from gpubalancer.brain.content_parts import Message, found, read_parts
from gpubalancer.domain.errors import RequestError

LINK = "https://127.0.0.1/cat.png"


def of(content: object) -> Message:
    """A message with this content."""
    into = found()
    read_parts(content, "messages[0].content", into)
    return into.message("user")


@pytest.mark.parametrize(
    ("content", "texts"),
    [
        ("a", ("a",)),
        (None, ()),
        ([], ()),
        (["a", "b"], ("a", "b")),
        ([{"type": "text", "text": "a"}, {"type": "input_text", "text": "b"}], ("a", "b")),
        ([{"type": "refusal", "refusal": "no"}], ("no",)),
        ([{"type": "novel", "x": {"y": ["z"]}, "n": 1}], ("z",)),
        ([{"text": "a"}], ("a",)),
        ([{"type": 7, "text": "a"}], ("a",)),
        ([{"type": "thinking", "thinking": "hm", "signature": "s"}], ("hm",)),
        ([{"type": "tool_use", "id": "1", "name": "f", "input": {"b": 1}}], ("f", '{"b":1}')),
        ([{"type": "tool_result", "tool_use_id": "1", "content": "done"}], ("done",)),
        ([{"type": "tool_result", "content": [{"type": "text", "text": "done"}]}], ("done",)),
        ([{"type": "tool_result", "content": [{"type": "tool_result", "content": "in"}]}], ("tool_result", "in")),
        ([{"type": "document", "source": {"type": "text", "data": "page"}, "title": "t"}], ("text", "page", "t")),
    ],
)
def test_texts_of_a_content(content: object, texts: tuple[str, ...]) -> None:
    """Every kind of part gives its texts, in order; unknown kinds give all of theirs."""
    assert of(content).texts == texts


@pytest.mark.parametrize(
    ("part", "media"),
    [
        ({"type": "image_url", "image_url": {"url": LINK, "detail": "low"}}, Media("image", detail="low")),
        ({"type": "image_url", "image_url": LINK}, Media("image")),
        ({"type": "input_image", "image_url": LINK, "detail": "high"}, Media("image", detail="high")),
        ({"type": "input_image", "file_id": "f"}, Media("image")),
        ({"type": "image", "source": {"type": "url", "url": LINK}}, Media("image")),
        ({"type": "image", "url": LINK}, Media("image")),
        ({"type": "audio_url", "audio_url": {"url": LINK}}, Media("audio")),
        ({"type": "input_audio", "input_audio": {"data": "AAAA"}}, Media("audio", length_s=3 / 8000, size_bytes=3)),
        (
            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}},
            Media("image", size_bytes=3),
        ),
        (
            {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "AAAA"}},
            Media("file", size_bytes=3),
        ),
        ({"type": "file", "file": {"file_data": "data:application/pdf;base64,AAAA"}}, Media("file", size_bytes=3)),
        ({"type": "novel", "x": "data:image/png;base64,AAAA"}, Media("image", size_bytes=3)),
    ],
)
def test_media_of_a_part(part: dict[str, Any], media: Media) -> None:
    """Images, sound and files of all APIs, as links or as data, are media and not text."""
    message = of([part])
    assert (message.texts, message.media) == ((), (media,))


@pytest.mark.parametrize(
    "part",
    [
        {"type": "text", "text": 1},
        {"type": "image_url", "image_url": {"url": 1}},
        {"type": "image_url", "image_url": 1},
        {"type": "input_audio"},
        {"type": "input_audio", "input_audio": "AAAA"},
    ],
)
def test_broken_parts_of_known_kinds_are_refused(part: dict[str, Any]) -> None:
    """A known kind of part must hold what it says."""
    with pytest.raises(RequestError) as caught:
        of([part])
    assert caught.value.param == "messages[0].content"


def test_links_are_extras() -> None:
    """A link may hold a secret, so detectors see it; data may not."""
    assert of([{"type": "image_url", "image_url": {"url": LINK, "note": "n"}}]).extras == (LINK, "n")
    assert of([{"type": "image", "source": {"type": "url", "url": LINK}}]).extras == ("url", LINK)
    assert of([{"type": "audio_url", "audio_url": {"url": LINK}}]).extras == (LINK,)
    assert of([{"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}]).extras == ("wav",)
    assert of([{"type": "image_url", "image_url": "data:image/png;base64,AAAA"}]).extras == ()


def test_unknown_keys_of_known_parts_are_extras() -> None:
    """What a part says beside what its type has is for detectors."""
    assert of([{"type": "redacted_thinking", "data": "x"}]) == Message("user", (), (), ("x",))
    part = {"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}, "x": ["y"]}
    assert of([part]) == Message("user", ("a",), (), ("ephemeral", "y"))


TYPES = ["text", "image_url", "input_image", "image", "document", "input_audio", "tool_use", "tool_result", "novel"]


@given(st.sampled_from(TYPES), st.dictionaries(st.text(min_size=1, max_size=3), st.text(min_size=1), max_size=3))
def test_no_string_of_a_part_is_lost(kind: str, unknown: dict[str, str]) -> None:
    """Whatever keys a part has, their strings are texts or extras."""
    known = {"text": "a", "image_url": LINK, "source": {"type": "text", "data": "d"}, "input_audio": {"data": "AAAA"}}
    message = of([{**unknown, **known, "type": kind}])
    wanted = {text for key, text in unknown.items() if key not in known and not text.startswith("data:")}
    assert wanted <= {*message.texts, *message.extras}
