"""Bodies that are made to be slow to read, each of about a given size: what a loop must survive."""

import random
from collections.abc import Callable, Mapping

from bench.hostile_text import HOSTILE

_HEAD, _TAIL = b'{"model":"m","messages":[', b"]}"
_UNICODE = (*range(0xA0, 0xD7FF), *range(0x10000, 0x1FFFF))


def _filled(before: bytes, unit: bytes, after: bytes, size_bytes: int) -> bytes:
    """The unit as often as it fits between two ends; a comma at its end is left out the last time."""
    times = max((size_bytes - len(before) - len(after)) // len(unit), 1)
    return before + (unit * times).removesuffix(b",") + after


def _in_text(unit: bytes) -> Callable[[int], bytes]:
    return lambda size: _filled(_HEAD + b'{"role":"user","content":"', unit, b'"}' + _TAIL, size)


def _in_field(opened: bytes, unit: bytes, closed: bytes) -> Callable[[int], bytes]:
    return lambda size: _filled(b'{"model":"m","prompt":"a",' + opened, unit, closed + b"}", size)


def _as_messages(unit: bytes) -> Callable[[int], bytes]:
    return lambda size: _filled(_HEAD, unit + b",", _TAIL, size)


def _in_parts(unit: bytes) -> Callable[[int], bytes]:
    return lambda size: _filled(_HEAD + b'{"role":"user","content":[', unit + b",", b"]}" + _TAIL, size)


def _keys(digits: str) -> Callable[[int], bytes]:
    """An object of keys that are all different."""

    def make(size_bytes: int) -> bytes:
        width = len(digits % 0) + 5
        pairs = (b'"%s":0,' % (digits % number).encode() for number in range(size_bytes // width))
        return b'{"model":"m","prompt":"a","x":{' + b"".join(pairs).removesuffix(b",") + b"}}"

    return make


def _nested(opened: bytes, closed: bytes) -> Callable[[int], bytes]:
    def make(size_bytes: int) -> bytes:
        times = size_bytes // (len(opened) + len(closed))
        return b'{"model":"m","x":' + opened * times + b"0" + closed * times + b"}"

    return make


def _deep_schemas(size_bytes: int) -> bytes:
    """Tools whose parameters go as deep as is allowed."""
    schema = b'{"type":"object","properties":{"a":' * 24 + b'{"type":"string"}' + b"}}" * 24
    tool = b'{"type":"function","function":{"name":"f","description":"does it","parameters":' + schema + b"}},"
    return _filled(_HEAD + b'{"role":"user","content":"a"}],"tools":[', tool, _TAIL, size_bytes)


def _all_of_unicode(size_bytes: int) -> bytes:
    text = "".join(map(chr, random.Random(3).choices(_UNICODE, k=min(size_bytes, 1_000_000) // 4)))
    return _in_text(text.encode())(size_bytes)


_PIXEL = b"iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk"
_IMAGE = b'{"type":"image_url","image_url":{"url":"data:image/png;base64,%s"}}'

BODIES: Mapping[str, Callable[[int], bytes]] = {
    "one letter": _in_text(b"a"),
    "English": _in_text(b"the quick brown fox jumps over the lazy dog. "),
    "commas": _in_text(b","),
    "letters as escapes": _in_text(b"\\u0061"),
    "Chinese as escapes": _in_text(b"\\u4e2d"),
    "emoji as escapes": _in_text(b"\\ud83d\\ude00"),
    "quotes as escapes": _in_text(b'\\"'),
    "line ends as escapes": _in_text(b"\\n"),
    "all of Unicode": _all_of_unicode,
    "zero-width letters": _in_text("1\u200b".encode()),
    "opening brackets": _nested(b"[", b""),
    "nested lists": _nested(b"[", b"]"),
    "nested objects": _nested(b'{"a":', b"}"),
    "lists 90 deep": _in_field(b'"x":[', b"[" * 90 + b"]" * 90 + b",", b"]"),
    "small numbers": _in_field(b'"x":[', b"1,", b"]"),
    "token ids": lambda size: _filled(b'{"model":"m","prompt":[', b"100000,", b"]}", size),
    "fractions": _in_field(b'"x":[', b"0.1234567890123456789,", b"]"),
    "huge exponents": _in_field(b'"x":[', b"1e-300,", b"]"),
    "one huge number": _in_field(b'"x":', b"1", b""),
    "nulls": _in_field(b'"x":[', b"null,", b"]"),
    "empty lists": _in_field(b'"x":[', b"[],", b"]"),
    "empty objects": _in_field(b'"x":[', b"{},", b"]"),
    "empty texts": _in_field(b'"x":[', b'"",', b"]"),
    "many keys": _keys("%08d"),
    "long keys": _keys("%0200d"),
    "one key again and again": _in_field(b'"x":{', b'"a":0,', b'"a":0}'),
    "models within": _in_field(b'"x":[', b'{"model":"m"},', b"]"),
    "tiny messages": _as_messages(b'{"role":"user","content":""}'),
    "messages of a word": _as_messages(b'{"role":"user","content":"word"}'),
    "messages with a field": _as_messages(b'{"role":"user","content":"a","name":"b"}'),
    "text parts": _in_parts(b'{"type":"text","text":"a"}'),
    "unknown parts": _in_parts(b'{"type":"x","a":"b","c":"d"}'),
    "image links": _in_parts(b'{"type":"image_url","image_url":{"url":"http://a/b"}}'),
    "small images": _in_parts(_IMAGE % _PIXEL),
    "one image": lambda size: _in_parts(_IMAGE % (b"A" * (size - 200)))(0),
    "tools": lambda size: _filled(
        _HEAD + b'{"role":"user","content":"a"}],"tools":[',
        b'{"type":"function","function":{"name":"f","description":"a","parameters":{}}},', _TAIL, size,
    ),
    "deep schemas": _deep_schemas,
    "calls of tools": _as_messages(
        b'{"role":"assistant","content":null,"tool_calls":[{"id":"a","type":"function","function":{"name":"f","arguments":"{}"}}]}'
    ),
    "white space": _in_field(b'"x":0', b" ", b""),
}  # fmt: skip
"""Makers of a body by its size."""

SECRETS: Mapping[str, Callable[[int], bytes]] = {
    f"detectors: {name}": _in_text(unit.replace("\\", "\\\\").replace("\0", "\\u0000").encode())
    for name, unit in HOSTILE.items()
}
"""Texts that are made for the detectors."""
