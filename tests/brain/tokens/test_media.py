"""Costs of images and sound by the published rules."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpubalancer.brain.content_media import Media
from gpubalancer.brain.tokens.media import media_tokens
from gpubalancer.brain.tokens.tokenizer import Family

FAMILIES: tuple[Family, ...] = ("openai", "anthropic", "other")


@pytest.mark.parametrize(
    ("width", "height", "detail", "tokens"),
    [
        (1024, 1024, "high", 765),  # the guide's own examples
        (2048, 4096, "high", 1105),
        (4096, 8192, "low", 85),
        (512, 512, "", 255),
        (1, 1, "auto", 255),
        (0, 0, "", 765),
    ],
)
def test_tiles(width: int, height: int, detail: str, tokens: int) -> None:
    """OpenAI's tiles of 512 pixels, as its guide reckons."""
    assert media_tokens([Media("image", width, height, detail)], "openai") == tokens


@pytest.mark.parametrize(
    ("width", "height", "tokens"), [(200, 200, 54), (1000, 1000, 1334), (1092, 1092, 1590), (8000, 8000, 1600)]
)
def test_anthropic(width: int, height: int, tokens: int) -> None:
    """The sizes of Anthropic's own table, and its upper end."""
    assert media_tokens([Media("image", width, height)], "anthropic") == pytest.approx(tokens, abs=10)


def test_patches() -> None:
    """A picture of 28 x 28 patches has one token for each, and two marks."""
    assert media_tokens([Media("image", 280, 560)], "other") == 10 * 20 + 2


def test_sound_and_files() -> None:
    """Sound by its length, files by their size, all of them added."""
    assert media_tokens([Media("audio", length_s=2.0)], "openai") == 20
    assert media_tokens([Media("audio", length_s=2.0)], "other") == 50
    assert media_tokens([Media("audio"), Media("file", size_bytes=3200)], "openai") == 200
    assert media_tokens([], "openai") == 0


@given(
    st.sampled_from(FAMILIES), st.integers(0, 2**32), st.integers(0, 2**32), st.sampled_from(["", "low"]),
    st.floats(0, 1e30),
)  # fmt: skip
def test_no_header_costs_a_fortune(family: Family, width: int, height: int, detail: str, length_s: float) -> None:
    """Whatever size a header claims, the cost is bounded."""
    assert 0 < media_tokens([Media("image", width, height, detail)], family) <= 16_386
    assert 0 <= media_tokens([Media("audio", length_s=length_s)], family) <= 25 * 86_400
