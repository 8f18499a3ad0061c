"""Sizes and lengths out of the first bytes of real formats."""

import base64
import struct
import time
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpubalancer.brain.content_media import Media, audio_of, image_of, media_of
from tests.brain.test_content_sound import mp3, ogg_opus


def encoded(data: bytes, kind: str = "image/png") -> str:
    """A data URL."""
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def png(width: int, height: int) -> bytes:
    """A PNG's head."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))


def jpeg(width: int, height: int, before: int = 0) -> bytes:
    """A JPEG's head, with so many bytes of metadata before the frame."""
    segments = b""
    while before > 0:
        size = min(before, 65_000)
        segments += b"\xff\xe1" + struct.pack(">H", size + 2) + bytes(size)
        before -= size
    return b"\xff\xd8" + segments + b"\xff\xc0" + struct.pack(">HBHH", 17, 8, height, width) + bytes(12)


IMAGES = {
    "png": png(640, 480),
    "jpeg": jpeg(640, 480),
    "jpeg after a thumbnail": jpeg(640, 480, 60_000),
    "gif": b"GIF89a" + struct.pack("<HH", 640, 480) + bytes(20),
    "webp lossy": b"RIFF\0\0\0\0WEBPVP8 " + bytes(10) + struct.pack("<HH", 640, 480),
    "webp lossless": b"RIFF\0\0\0\0WEBPVP8L" + bytes(4) + b"\x2f" + struct.pack("<I", 639 | 479 << 14) + bytes(9),
    "webp extended": b"RIFF\0\0\0\0WEBPVP8X" + bytes(8) + (639).to_bytes(3, "little") + (479).to_bytes(3, "little"),
}


@pytest.mark.parametrize("name", IMAGES)
def test_sizes_of_images(name: str) -> None:
    """Each format says its size, whatever type the URL claims, and without a URL's head too."""
    data = IMAGES[name]
    assert (image_of(encoded(data), "").width, image_of(encoded(data), "").height) == (640, 480)
    bare = base64.b64encode(data).decode()
    assert image_of(bare, "high")[1:4] == (640, 480, "high")


@pytest.mark.parametrize("url", ["https://127.0.0.1/a.png", None, 7, "", "data:", "data:image/png;base64,!!!", "zzzz"])
def test_images_of_unknown_size(url: object) -> None:
    """Links and broken data have no size."""
    assert image_of(url, "").width == 0


def test_a_cut_jpeg_has_no_size() -> None:
    """The search for a frame ends with the data."""
    assert image_of(encoded(jpeg(640, 480)[:10]), "").width == 0


def wav(seconds: float, rate: int = 16_000) -> bytes:
    """A WAV of silence, 16 bits, one channel."""
    samples = bytes(int(seconds * rate) * 2)
    form = struct.pack("<IHHIIHH", 16, 1, 1, rate, rate * 2, 2, 16)
    return b"RIFF" + struct.pack("<I", 36 + len(samples)) + b"WAVEfmt " + form + b"data" + bytes(4) + samples


def test_lengths_of_sound() -> None:
    """By their headers, decoded where they stand in the text; by its size where there is none."""
    assert audio_of(encoded(wav(2.5), "audio/wav")).length_s == pytest.approx(2.5, abs=0.01)
    packed = (48_000 << 44 | 1 << 41 | 15 << 36 | 96_000).to_bytes(8)
    flac = b"fLaC" + bytes(4) + bytes(10) + packed + bytes(16)
    assert audio_of(base64.b64encode(flac).decode()).length_s == 2.0
    for tag_bytes in (300, 301, 302):
        assert audio_of(encoded(mp3(tag_bytes, 32_000), "audio/mpeg")).length_s == pytest.approx(2.0, abs=0.01)
    assert audio_of(base64.b64encode(ogg_opus(2.0, 500_000)).decode()).length_s == pytest.approx(2.0, abs=0.01)
    assert audio_of(base64.b64encode(bytes(16_000)).decode()).length_s == pytest.approx(2.0, abs=0.01)
    assert audio_of("https://127.0.0.1/a.wav") == audio_of(None) == Media("audio")


def test_rates_of_zero() -> None:
    """A header without a rate has no length."""
    assert audio_of(base64.b64encode(wav(1.0)[:28] + bytes(16)).decode()).length_s == 0.0
    assert audio_of(base64.b64encode(b"fLaC" + bytes(30)).decode()).length_s == 0.0


def test_media_by_type() -> None:
    """What is neither image nor sound is a file."""
    assert [media_of(kind, "AAAA").kind for kind in ("image/png", "audio/wav", "application/pdf", "")] == [
        "image", "audio", "file", "file",
    ]  # fmt: skip


@given(st.binary(max_size=200), st.sampled_from([b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8", b"RIFF", b"GIF89a", b"fLaC"]))
def test_any_bytes_are_media(data: bytes, magic: bytes) -> None:
    """Arbitrary data behind a known magic number raises nothing and gives no negative size."""
    for url in (encoded(magic + data), (magic + data).decode("latin-1")):
        image, sound = image_of(url, ""), audio_of(url)
        assert image.width >= 0
        assert image.height >= 0
        assert sound.length_s >= 0


def test_a_large_picture_is_not_decoded() -> None:
    """Of 20 MB only the head is looked at."""
    url = encoded(png(4, 4)) + "A" * 20_000_000
    start_s = time.thread_time()
    assert image_of(url, "").width == 4
    assert time.thread_time() - start_s < 0.005
