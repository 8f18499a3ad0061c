"""How long sound is, by the header of its container.

| container | by |
|---|---|
| WAV | bytes per second of its format chunk (Multimedia Programming Interface 1.0) |
| FLAC | samples and rate of STREAMINFO (RFC 9639, section 8.2) |
| MP3 | frames that a Xing or Info header counts, else the bit rate of the first frame (ISO 11172-3, 2.4.2.3) |
| Ogg | position of its last page (RFC 3533, section 6), at 48 kHz for Opus (RFC 7845, section 4), else Vorbis's rate |

Others (MP4, WebM), and what has no header that can be read, are taken for 64 kbit/s. Little is decoded of any: the
first bytes, those behind an MP3's tag, and the last 64 KiB of an Ogg.
"""

from collections.abc import Callable
from typing import NamedTuple

Read = Callable[[int, int], bytes]
"""Bytes of the sound from an offset on, at most so many, or fewer where they can't be had."""

HEAD_BYTES = 384
_PAGE_BYTES = 64 * 1024
"""An Ogg page has at most 65,307 bytes."""
_UNKNOWN_BYTES_PER_S = 8_000
_LONGEST_GRANULE = 1 << 48

_MPEG1_KBIT = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 0)
_MPEG2_KBIT = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160, 0)
_RATES = (44_100, 48_000, 32_000, 0)


def length_s(read: Read, size_bytes: int) -> float:
    """Seconds; 0 where a header says nothing that can be true."""
    head = read(0, HEAD_BYTES)
    if head.startswith(b"RIFF") and head[8:12] == b"WAVE":
        bytes_per_s = int.from_bytes(head[28:32], "little")
        return max(size_bytes - 44, 0) / bytes_per_s if bytes_per_s else 0.0
    if head.startswith(b"fLaC") and len(head) >= 26:
        # 20 bits of rate, 3 of channels, 5 of depth, 36 of samples.
        packed = int.from_bytes(head[18:26])
        rate, samples = packed >> 44, packed & (1 << 36) - 1
        return samples / rate if rate else 0.0
    if head.startswith(b"OggS"):
        return _ogg(head, read(max(size_bytes - _PAGE_BYTES, 0), _PAGE_BYTES), size_bytes)
    if head.startswith(b"ID3") and len(head) >= 10:
        # Seven bits of each of four bytes.
        tag_bytes = 10 + sum((byte & 0x7F) << shift for byte, shift in zip(head[6:10], (21, 14, 7, 0), strict=True))
        return _mp3(read(tag_bytes, HEAD_BYTES), size_bytes - tag_bytes, size_bytes)
    return _mp3(head, size_bytes, size_bytes)


class _Frame(NamedTuple):
    """The header of an MP3's frame."""

    kbit_per_s: int
    rate: int
    samples: int
    side_bytes: int
    """What stands between it and a Xing header."""


def _frame(head: bytes) -> _Frame | None:
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE6 != 0xE2:
        return None  # no sync, or not layer III
    version, mono = head[1] >> 3 & 3, head[3] >> 6 == 3
    if version == 1:
        return None
    rate = _RATES[head[2] >> 2 & 3] // (1 if version == 3 else 2 if version == 2 else 4)
    kbit_per_s = (_MPEG1_KBIT if version == 3 else _MPEG2_KBIT)[head[2] >> 4]
    side_bytes = (17 if mono else 32) if version == 3 else (9 if mono else 17)
    return _Frame(kbit_per_s, rate, 1152 if version == 3 else 576, side_bytes) if rate and kbit_per_s else None


def _mp3(head: bytes, sound_bytes: int, size_bytes: int) -> float:
    frame = _frame(head)
    if frame is None:
        return size_bytes / _UNKNOWN_BYTES_PER_S
    tag = head[4 + frame.side_bytes :][:12]
    if tag[:4] in (b"Xing", b"Info") and len(tag) == 12 and tag[7] & 1:
        return int.from_bytes(tag[8:12]) * frame.samples / frame.rate
    return max(sound_bytes, 0) / (frame.kbit_per_s * 125)


def _ogg(head: bytes, tail: bytes, size_bytes: int) -> float:
    vorbis, skipped, rate = head.find(b"\x01vorbis"), 0, 0
    if (opus := head.find(b"OpusHead")) >= 0:
        skipped, rate = int.from_bytes(head[opus + 10 : opus + 12], "little"), 48_000
    elif vorbis >= 0:
        rate = int.from_bytes(head[vorbis + 12 : vorbis + 16], "little")
    page = tail.rfind(b"OggS")
    granule = int.from_bytes(tail[page + 6 : page + 14], "little") if page >= 0 else _LONGEST_GRANULE
    if not rate or granule >= _LONGEST_GRANULE:
        return size_bytes / _UNKNOWN_BYTES_PER_S
    return max(granule - skipped, 0) / rate
