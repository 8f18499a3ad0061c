"""One message's content: texts, media, and what is neither, part by part.

The APIs differ in names more than in kind, so all parts are read by one table (`_PARTS`): for each type the reader and
the keys that it reads. Every other string of a part is an extra, and so are links: they reach the engine, but not as
tokens. Of a part whose type is not in the table, all strings are taken for text, except data URLs, which are media.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from gpubalancer.brain.content_fields import Fields, refuse, serialised, walk
from gpubalancer.brain.content_media import Media, audio_of, image_of, media_of


class Message(NamedTuple):
    """One message. A tuple, because a long conversation makes thousands."""

    role: str
    texts: tuple[str, ...]
    """Text parts in order; names and arguments of tool calls, results of tools, and what else is prompt."""
    media: tuple[Media, ...] = ()
    extras: tuple[str, ...] = ()
    """Strings that reach the engine and are not prompt: links, ids, fields that we do not know."""
    fields: Fields | None = None
    """The message as it was sent, if it has more than a role and content: a model's own template tells fields apart.
    Of chat completions only."""
    contents: int = 0
    """Where there are `fields`: so many of the texts, the first, are its content."""


class Found(NamedTuple):
    """What was found of one message so far."""

    texts: list[str]
    media: list[Media]
    extras: list[str]

    def message(self, role: str) -> Message:
        """All of it, in order."""
        return Message(role, tuple(self.texts), tuple(self.media), tuple(self.extras))


def found() -> Found:
    """Nothing so far."""
    return Found([], [], [])


def read_parts(value: object, where: str, into: Found) -> None:
    """A message's content: a text, a list of parts, or nothing.

    Raises:
        RequestError: `invalid_json`.
    """
    if value is None:
        return
    if isinstance(value, str):
        into.texts.append(value)
        return
    if not isinstance(value, list):
        raise refuse(where, "a text or a list of parts")
    for part in value:
        if isinstance(part, str):
            into.texts.append(part)
        elif isinstance(part, dict):
            _part(part, where, into)
        else:
            raise refuse(where, "a text or a list of parts")


def _part(part: Fields, where: str, into: Found) -> None:
    kind = part.get("type")
    row = _PARTS.get(kind) if isinstance(kind, str) else None
    if row is None:
        _unknown(part, where, into)
        return
    reader, keys = row
    reader(part, where, into)
    if part.keys() != keys:
        for key, value in part.items():
            if key not in keys:
                walk(value, where, into.extras)


def read_link(url: object, detail: object, where: str, into: Found) -> None:
    """An image by its data or its link."""
    if url is not None and not isinstance(url, str):
        raise refuse(where, "image parts with a URL")
    image = image_of(url, detail if isinstance(detail, str) else "")
    into.media.append(image)
    if url is not None and not image.size_bytes:
        into.extras.append(url)


def _unknown(part: Fields, where: str, into: Found) -> None:
    strings: list[str] = []
    walk({key: value for key, value in part.items() if key != "type"}, where, strings)
    walk(part.get("type"), where, into.extras)
    for text in strings:
        if text.startswith("data:"):
            into.media.append(media_of(text[5:], text))
        else:
            into.texts.append(text)


def _text(part: Fields, where: str, into: Found) -> None:
    text = part.get("text")
    if not isinstance(text, str):
        raise refuse(where, "parts of type text with a text")
    into.texts.append(text)


def _image(part: Fields, where: str, into: Found) -> None:
    """Chat's `image_url` (an object or a text), Responses' `input_image`."""
    value = part.get("image_url")
    if isinstance(value, dict):
        read_link(value.get("url"), value.get("detail"), where, into)
        walk({key: inner for key, inner in value.items() if key not in ("url", "detail")}, where, into.extras)
    else:
        read_link(value, part.get("detail"), where, into)


def _sourced(part: Fields, where: str, into: Found) -> None:
    """Anthropic's images and documents: a `source` that is base64 data, a link, a text or content."""
    source = part.get("source")
    if isinstance(source, dict) and source.get("type") == "base64" and isinstance(source.get("data"), str):
        into.media.append(media_of(str(source.get("media_type")), source["data"]))
        walk({key: inner for key, inner in source.items() if key != "data"}, where, into.extras)
    elif part.get("type") == "image":
        into.media.append(Media("image"))
        walk(source, where, into.extras)
    else:
        walk([source, part.get("title"), part.get("context")], where, into.texts)


def _thinking(part: Fields, where: str, into: Found) -> None:
    """Earlier reasoning; its signature, and reasoning that is encrypted, are no text."""
    walk(part.get("thinking"), where, into.texts)


def _audio(part: Fields, where: str, into: Found) -> None:
    value = part.get("input_audio", part.get("audio_url"))
    if not isinstance(value, dict):
        raise refuse(where, "audio parts with an object")
    data = value.get("data", value.get("url"))
    sound = audio_of(data if isinstance(data, str) else None)
    into.media.append(sound)
    # The data itself is no text; a link is.
    walk([inner for inner in value.values() if inner is not data or not sound.size_bytes], where, into.extras)


def _tool_use(part: Fields, where: str, into: Found) -> None:
    walk(part.get("name"), where, into.texts)
    if part.get("input") is not None:
        into.texts.append(serialised(part["input"], where))


def _tool_result(part: Fields, where: str, into: Found) -> None:
    """A tool's result holds parts itself, but no further results: those are taken as they come."""
    content = part.get("content")
    if isinstance(content, list) and any(isinstance(p, dict) and p.get("type") == "tool_result" for p in content):
        walk(content, where, into.texts)
    else:
        read_parts(content, where, into)


_Reader = Callable[[Fields, str, Found], None]
_PARTS: Mapping[str, tuple[_Reader, frozenset[str]]] = {
    "text": (_text, frozenset(("type", "text"))),
    "input_text": (_text, frozenset(("type", "text"))),
    "output_text": (_text, frozenset(("type", "text"))),
    "image_url": (_image, frozenset(("type", "image_url", "detail"))),
    "input_image": (_image, frozenset(("type", "image_url", "detail"))),
    "image": (_sourced, frozenset(("type", "source"))),
    "document": (_sourced, frozenset(("type", "source", "title", "context"))),
    "thinking": (_thinking, frozenset(("type", "thinking"))),
    "redacted_thinking": (_thinking, frozenset(("type",))),
    "input_audio": (_audio, frozenset(("type", "input_audio"))),
    "audio_url": (_audio, frozenset(("type", "audio_url"))),
    "tool_use": (_tool_use, frozenset(("type", "name", "input"))),
    "server_tool_use": (_tool_use, frozenset(("type", "name", "input"))),
    "tool_result": (_tool_result, frozenset(("type", "content"))),
}
