"""Tokens of images and sound, as the families publish them.

| family | an image | a second of sound |
|---|---|---|
| OpenAI | 85, and 170 for each tile of 512 pixels after scaling to 2048 and 768; `low`: 85 [1] | 10 [2] |
| Anthropic | width x height / 750, long edge at most 1568 [3] | |
| others | one for each 28 x 28 pixels, and 2 [4] | 25 [5] |

[1] *Images and vision*, [2] *Managing costs* of the Realtime API (1 token per 100 ms of a user's sound): OpenAI's
guides. [3] *Vision*, Anthropic's guide. [4] Qwen2-VL's paper (arXiv 2409.12191). [5] Qwen2-Audio's report (arXiv
2407.10759, 40 ms a frame).

A picture whose size is not known is taken for 1024 x 1024, a sound of unknown length for 10 s. A file (PDF) is taken
for one token in 32 bytes: a page has about 50 KB and 1,500 tokens (Anthropic's *PDF support*: 1,500 to 3,000).
"""

import math
from collections.abc import Callable, Iterable, Mapping

from gpubalancer.brain.content_media import Media
from gpubalancer.brain.tokens.tokenizer import Family

_UNKNOWN_PIXELS = 1024
_UNKNOWN_S = 10.0
_LONGEST_S = 24 * 3600.0
_FILE_BYTES_PER_TOKEN = 32
_AUDIO_TOKENS_PER_S: Mapping[Family, float] = {"openai": 10.0, "anthropic": 10.0, "other": 25.0}

_MOST_PIXELS = 16384 * 16384
"""A header may claim any size; engines scale down or refuse."""


def _openai(width: int, height: int, detail: str) -> int:
    if detail == "low":
        return 85
    scale = min(1.0, 2048 / max(width, height))
    scale *= min(1.0, 768 / (min(width, height) * scale))
    return 85 + 170 * math.ceil(width * scale / 512) * math.ceil(height * scale / 512)


def _anthropic(width: int, height: int, _detail: str) -> int:
    # Larger ones are scaled down to 1568 at the long edge and about 1,600 tokens.
    scale = min(1.0, 1568 / max(width, height))
    return min(math.ceil(width * scale * height * scale / 750), 1600)


def _qwen(width: int, height: int, _detail: str) -> int:
    # Its default bounds: 4 to 16,384 tokens.
    return min(max(round(width / 28) * round(height / 28), 4), 16_384) + 2


_IMAGES: Mapping[Family, Callable[[int, int, str], int]] = {"openai": _openai, "anthropic": _anthropic, "other": _qwen}


def media_tokens(media: Iterable[Media], family: Family) -> int:
    """Tokens of all media of a request."""
    return sum(_tokens(each, family) for each in media)


def _tokens(media: Media, family: Family) -> int:
    if media.kind == "image":
        width, height = media.width or _UNKNOWN_PIXELS, media.height or _UNKNOWN_PIXELS
        if width * height > _MOST_PIXELS:
            width = height = _UNKNOWN_PIXELS
        return _IMAGES[family](width, height, media.detail)
    if media.kind == "audio":
        return math.ceil(min(media.length_s or _UNKNOWN_S, _LONGEST_S) * _AUDIO_TOKENS_PER_S[family])
    return media.size_bytes // _FILE_BYTES_PER_TOKEN
