"""Sizes of images and lengths of sound, read from their base64 text.

Formats are told by their magic numbers, not by what the URL claims. Only the head is decoded: a PNG, GIF or WebP says
its size in the first 30 bytes, a JPEG after its metadata; of sound, `content_sound.py` tells. What can't be read has
size 0 or length 0, and the table of costs (`tokens/media.py`) has a figure for that.
"""

import binascii
from typing import Literal, NamedTuple

from gpubalancer.brain.content_sound import length_s

_HEAD_CHARS = 512
_JPEG_CHARS = 128 * 1024
"""How far a JPEG is searched for its size: past an EXIF thumbnail (64 KB), not through the picture."""


class Media(NamedTuple):
    """Something in a prompt that is not text."""

    kind: Literal["image", "audio", "file"]
    width: int = 0
    """Pixels; 0 where it can't be known (a link)."""
    height: int = 0
    detail: str = ""
    """Chat's `low`, `high` or `auto`."""
    length_s: float = 0.0
    """Of sound; 0 where it can't be known."""
    size_bytes: int = 0


def media_of(mime_type: str, data: str) -> Media:
    """Media by the type that is claimed for it, from its base64 text or data URL."""
    if mime_type.startswith("image/"):
        return image_of(data, "")
    if mime_type.startswith("audio/"):
        return audio_of(data)
    return Media("file", size_bytes=_size_bytes(data))


def image_of(url: object, detail: str) -> Media:
    """An image by its data URL, its base64 text or its link."""
    if not isinstance(url, str) or url.startswith(("http:", "https:")):
        return Media("image", detail=detail)
    start = _data_start(url)
    head = _decoded(url, start, _HEAD_CHARS)
    width, height = _dimensions(head)
    if head.startswith(b"\xff\xd8") and not width:
        width, height = _jpeg(_decoded(url, start, _JPEG_CHARS))
    return Media("image", width, height, detail, 0.0, (len(url) - start) * 3 // 4)


def audio_of(data: str | None) -> Media:
    """Sound by its base64 text or data URL."""
    if data is None or data.startswith(("http:", "https:")):
        return Media("audio")
    size, start = _size_bytes(data), _data_start(data)

    def read(offset: int, count: int) -> bytes:
        """Four characters are three bytes: begin with whole ones."""
        before = offset % 3
        return _decoded(data, start + offset // 3 * 4, -(-(before + count) // 3) * 4)[before:]

    return Media("audio", length_s=length_s(read, size), size_bytes=size)


def _data_start(url: str) -> int:
    return url.find(",", 0, 256) + 1 if url.startswith("data:") else 0


def _size_bytes(url: str) -> int:
    return (len(url) - _data_start(url)) * 3 // 4


def _decoded(url: str, start: int, chars: int) -> bytes:
    """The first bytes; none if it is not base64."""
    text = url[start : start + chars]
    try:
        return binascii.a2b_base64(text[: len(text) // 4 * 4])
    except (binascii.Error, ValueError):
        return b""


def _dimensions(head: bytes) -> tuple[int, int]:
    """Width and height of a PNG (RFC 2083, IHDR), GIF (89a, 18) or WebP (RFC 9649); 0, 0 if it is neither."""
    if head.startswith(b"\x89PNG\r\n\x1a\n") and len(head) >= 24:
        return int.from_bytes(head[16:20]), int.from_bytes(head[20:24])
    if head.startswith((b"GIF87a", b"GIF89a")) and len(head) >= 10:
        return int.from_bytes(head[6:8], "little"), int.from_bytes(head[8:10], "little")
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP" and len(head) >= 30:
        return _webp(head)
    return _jpeg(head) if head.startswith(b"\xff\xd8") else (0, 0)


def _webp(head: bytes) -> tuple[int, int]:
    match head[12:16]:
        case b"VP8 ":
            return int.from_bytes(head[26:28], "little") & 0x3FFF, int.from_bytes(head[28:30], "little") & 0x3FFF
        case b"VP8L":
            packed = int.from_bytes(head[21:25], "little")
            return (packed & 0x3FFF) + 1, (packed >> 14 & 0x3FFF) + 1
        case b"VP8X":
            return int.from_bytes(head[24:27], "little") + 1, int.from_bytes(head[27:30], "little") + 1
    return 0, 0


# Frame headers are SOF0 to SOF15, of which C4, C8 and CC are other things (ITU T.81, table B.1).
_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


def _jpeg(head: bytes) -> tuple[int, int]:
    position = 2
    while position + 9 <= len(head) and head[position] == 0xFF:
        if head[position + 1] in _JPEG_FRAMES:
            return int.from_bytes(head[position + 7 : position + 9]), int.from_bytes(head[position + 5 : position + 7])
        position += 2 + max(int.from_bytes(head[position + 2 : position + 4]), 2)
    return 0, 0
