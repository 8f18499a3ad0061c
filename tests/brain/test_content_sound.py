"""Lengths of sound, out of the headers that encoders write."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpubalancer.brain.content_sound import length_s


def length(data: bytes) -> float:
    """Of bytes that can be read anywhere."""
    return length_s(lambda offset, count: data[offset : offset + count], len(data))


def mp3(tag_bytes: int, sound_bytes: int, second: int = 0xFB, third: int = 0x90) -> bytes:
    """A tag of that size (none if 0), and frames; by default of MPEG-1 with 128 kbit/s at 44.1 kHz, stereo."""
    tag = b"ID3\4\0\0" + bytes((0, 0, tag_bytes >> 7, tag_bytes & 0x7F)) + bytes(tag_bytes) if tag_bytes else b""
    return tag + bytes((0xFF, second, third, 0)) + bytes(sound_bytes - 4)


def page(granule: int, content: bytes) -> bytes:
    """One Ogg page."""
    return b"OggS\0\2" + struct.pack("<q", granule) + bytes(12) + b"\1" + bytes((len(content) % 256,)) + content


def ogg_opus(seconds: float, middle_bytes: int = 0, skipped: int = 312) -> bytes:
    """Opus in Ogg: a head, a page that fills, and the last one."""
    head = b"OpusHead\1\1" + struct.pack("<HIHB", skipped, 16_000, 0, 0)
    last = int(seconds * 48_000) + skipped
    return page(0, head) + page(960, bytes(middle_bytes)) + page(last, b"end")


@pytest.mark.parametrize(
    ("data", "seconds"),
    [
        (mp3(0, 16_000), 1.0),
        (mp3(5_000, 16_000), 1.0),
        (mp3(0, 16_000, third=0xE0), 0.4),  # 320 kbit/s
        (mp3(0, 16_000, second=0xF3, third=0x80), 2.0),  # MPEG-2, 64 kbit/s
        (mp3(0, 16_000, second=0xE3, third=0x80), 2.0),  # MPEG-2.5
        (mp3(0, 36)[:36] + b"Xing" + struct.pack(">II", 1, 100) + bytes(9_000), 100 * 1152 / 44_100),
        (mp3(0, 36)[:36] + b"Info" + struct.pack(">II", 0, 100) + bytes(15_952), 1.0),  # says nothing of frames
        (ogg_opus(3.5), 3.5),
        (ogg_opus(3.5, 300_000), 3.5),
        (page(0, b"\1vorbis" + bytes(4) + b"\2" + struct.pack("<I", 32_000)) + page(64_000, b"x"), 2.0),
    ],
)
def test_lengths(data: bytes, seconds: float) -> None:
    """What a container says is believed."""
    assert length(data) == pytest.approx(seconds, rel=0.01)


@pytest.mark.parametrize(
    "data",
    [
        b"ID3" + bytes(7_997), mp3(0, 8_000, third=0xF0), mp3(0, 8_000, third=0x00), mp3(0, 8_000, third=0x9C),
        mp3(0, 8_000, second=0xEB), mp3(0, 8_000, second=0xFD), b"\x1aE\xdf\xa3" + bytes(7_996), bytes(8_000),
        (page(0, b"unknown") + bytes(8_000))[:8_000],
        (page(0, b"OpusHead" + bytes(11)) + page(-1, bytes(8_000)))[:8_000],
    ],
)  # fmt: skip
def test_what_has_no_header_is_taken_by_its_size(data: bytes) -> None:
    """Other containers, rates that are none, and pages that no sound ends on."""
    assert length(data) == pytest.approx(1.0)


@given(st.sampled_from([b"", b"ID3", b"OggS", b"RIFF1234WAVE", b"fLaC", b"\xff\xfb"]), st.binary(max_size=200))
def test_no_bytes_raise(magic: bytes, data: bytes) -> None:
    """Whatever stands behind a known beginning, a length is a number that is not negative."""
    assert length(magic + data) >= 0
