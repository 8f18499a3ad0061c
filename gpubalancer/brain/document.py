"""The bodies that are read: JSON, parsed once.

A key that two parsers could see differently (given twice, or spelt with escapes) is refused, because the backend's
parser is not ours: the model that was checked must be the model that is served. When the model's name must change on
the way, only the bytes of its value change; when usage is to be asked for, only that is added.

A body that is large, or made to be slow, is read in another process (`brain/gist.py`). Its document has been understood
there, knows the places at which it may have to be changed, and has no texts.
"""

import json
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import orjson

from gpubalancer.brain.content import Content, read_content
from gpubalancer.brain.edits import Edit, applied, edited
from gpubalancer.brain.learned import Extent
from gpubalancer.brain.prefix import Beginnings
from gpubalancer.brain.routes import Route
from gpubalancer.brain.sensitivity.scan import Scan
from gpubalancer.domain.errors import RequestError

_MODEL_VALUE = re.compile(rb'"model"\s*:\s*"((?:[^"\\]|\\.)*)"')
_ESCAPED_LETTER = re.compile(rb"\\u00[4-7]", re.IGNORECASE)
_MODEL_CHARS = 512
"""Longer than any model's name; what is longer is not carried further."""
_ASK = '"stream_options":{"include_usage":true},'
_ONCE = (b'"stream"', b'"stream_options"', b'"include_usage"')
_FORM_VALUE = re.compile(rb"\r\n\r\n([^\r\n]{1,256})\r\n")
_FORM_MODEL = re.compile(rb'name="?model"?(?:\r\n|$)', re.IGNORECASE)


class Understood(NamedTuple):
    """What was found out of a body's texts where it was read."""

    known_tokens: int
    """All of the prompt's tokens, or those beside texts that could only be measured."""
    extent: Extent | None
    """Of those texts; None if all were counted."""
    scan: Scan
    beginnings: Beginnings | None = None
    """Of the prompt, where prefixes are told apart."""


class Places(NamedTuple):
    """Where a body may have to be changed."""

    model: tuple[int, int]
    """The value of `model`, its quotes included: the first byte, and the one behind the last."""
    usage: Edit
    """Asks for the usage of the stream."""


class Document(NamedTuple):
    """A JSON body: what it says of its routing, and where."""

    pieces: tuple[bytes, ...]
    """The body, in one piece if it was read here."""
    asked: str
    """The model's name as the client gave it."""
    streamed: bool
    said: Content
    """Its prompt, and what it asks for in return."""
    asks_usage: bool = False
    """The client asks for the usage of its stream itself."""
    understood: Understood | None = None
    """If it was read elsewhere."""
    places: Places | None = None

    def body(self, name: str | None = None, *, with_usage: bool = False) -> tuple[bytes, ...]:
        """The body with another model's name, or asking for its usage, and every other byte as it was.

        What it says in `stream_options` stays; a value there that no engine takes stays too, for the engine to refuse.
        """
        quoted = orjson.dumps(name) if name is not None and name != self.asked else b""
        if self.places is not None:
            edits = [Edit(*self.places.model, quoted)] if quoted else []
            return edited(self.pieces, [*edits, self.places.usage] if with_usage else edits)
        if not quoted and not with_usage:
            return self.pieces
        (content,) = self.pieces
        if quoted:
            content = applied(content, Edit(*model_place(content), quoted))
        return (applied(content, usage_edit(content)),) if with_usage else (content,)


def read_document(content: bytes, route: Route) -> Document:
    """Parse a JSON body as far as routing needs it.

    Pure, and safe in any thread.

    Raises:
        RequestError: `invalid_json`, `missing_model`, `model_not_found`.
    """
    try:
        fields = orjson.loads(content)
    except orjson.JSONDecodeError as error:
        raise RequestError("invalid_json", f"The body is not valid JSON: {error.msg}.") from None
    if not isinstance(fields, dict):
        raise RequestError("invalid_json", "The body must be a JSON object.")
    # Of the other two keys, neither is there without the letters of the first.
    once = content.count(b'"model"') == 1 and (
        b'"stream' not in content or not any(content.count(key) > 1 for key in _ONCE)
    )
    if not once or _spelt_with_escapes(content):
        _refuse_repeated_keys(content)
    asked, streamed = fields.get("model"), fields.get("stream", route.streams_by_default)
    if not isinstance(asked, str) or not asked:
        raise RequestError("missing_model", "The body must name a model.", param="model")
    if len(asked) > _MODEL_CHARS:
        raise RequestError("model_not_found", "The model does not exist.", param="model")
    if streamed is not None and not isinstance(streamed, bool):
        raise RequestError("invalid_json", "stream must be true or false.", param="stream")
    options = fields.get("stream_options")
    asks_usage = isinstance(options, dict) and options.get("include_usage") is True
    return Document((content,), asked, bool(streamed), read_content(_shape(route.api, fields), fields), asks_usage)


def places_of(content: bytes) -> Places:
    """Where a body that `read_document` has taken may have to be changed."""
    return Places(model_place(content), usage_edit(content))


def model_place(content: bytes) -> tuple[int, int]:
    """Where the value of the top-level `model` stands."""
    matches = list(_MODEL_VALUE.finditer(content))
    # With one key of that name and none spelt with escapes, it is the top-level one that was read.
    if len(matches) == 1 and content.count(b'"model"') == 1 and not _spelt_with_escapes(content):
        start, end = matches[0].span(1)
        return start - 1, end + 1
    text = content.decode()
    start, end = _find_value(text, "model") or (0, 0)
    return _byte_offset(text, start), _byte_offset(text, end)


def usage_edit(content: bytes) -> Edit:
    """What makes a body that does not ask for the usage of its stream ask for it."""
    if b'"stream_options"' not in content and not _spelt_with_escapes(content):
        start = content.index(b"{") + 1
        return Edit(start, start, _ASK.encode())
    text = content.decode()
    found = _find_value(text, "stream_options")
    if found is None:
        start = _byte_offset(text, text.index("{") + 1)
        return Edit(start, start, _ASK.encode())
    start, end = found
    first, last, said = _usage_in_options(text[start:end])
    return Edit(_byte_offset(text, start + first), _byte_offset(text, start + last), said.encode())


def _spelt_with_escapes(content: bytes) -> bool:
    """True if some letter may be written by its number, as nobody does but to hide a key."""
    # Looking for the plain bytes first is ten times as fast as the expression alone.
    return b"\\u00" in content and _ESCAPED_LETTER.search(content) is not None


def _byte_offset(text: str, chars: int) -> int:
    return len(text[:chars].encode())


def _usage_in_options(options: str) -> tuple[int, int, str]:
    """Which part of a value of `stream_options` becomes what."""
    if options == "null":
        return 0, len(options), '{"include_usage":true}'
    if not options.startswith("{"):
        return 0, 0, ""
    found = _find_value(options, "include_usage")
    if found is not None:
        return *found, "true"
    return 1, 1, '"include_usage":true' + ("," if options[1:].strip() != "}" else "")


def _shape(api: str, fields: Mapping[str, Any]) -> str:
    """Whose body it is: what is to be tokenized comes as either of two."""
    if api != "tokenize":
        return api
    return "chat" if "messages" in fields else "completions"


def _refuse_repeated_keys(content: bytes) -> None:
    def check(pairs: list[tuple[str, Any]]) -> None:
        if len({key for key, _ in pairs}) != len(pairs):
            raise RequestError("invalid_json", "A key of a JSON object is given twice.")

    try:
        json.loads(content, object_pairs_hook=check)
    except (ValueError, RecursionError):
        raise RequestError("invalid_json", "The body is not valid JSON.") from None


def _find_value(text: str, wanted: str) -> tuple[int, int] | None:
    """Start and end of the value of a top-level key in a valid JSON object; None if it has no such key."""
    decoder, position = json.JSONDecoder(), text.index("{") + 1
    while text[position := _skip(text, position, " \t\r\n,")] != "}":
        key, position = decoder.raw_decode(text, position)
        position = _skip(text, position, " \t\r\n:")
        _, end = decoder.raw_decode(text, position)
        if key == wanted:
            return position, end
        position = end
    return None


def _skip(text: str, position: int, what: str) -> int:
    while text[position] in what:
        position += 1
    return position


def model_in_form(first_part: bytes) -> str | None:
    """The model that a multipart form names in its first bytes, None if it is not there (yet)."""
    start = 0
    for value in _FORM_VALUE.finditer(first_part):
        # The lines above a value, back to the boundary, are its head. Each byte is looked at once or twice.
        head = first_part[start : value.start()]
        if _FORM_MODEL.search(head, head.rfind(b"\r\n--") + 1):
            return value[1].decode("utf-8", "replace")
        start = value.end() - 2
    return None
