"""The journal's files: how they are named, which of them are complete, and what whole lines they hold.

A segment is written by one process, from its creation until it is full, its day is over or the process has gone; after
that nobody ever opens it for writing again. The writer holds the kernel's lock on it (`flock(2)`) from before its first
byte, so who finds it unlocked knows that it is complete, a killed writer's too: the kernel gives its locks back. What
stands after the last newline of a complete segment is a line whose writer was killed or had no room: a *torn* line. A
line whose checksum does not fit is *damaged*.
"""

import fcntl
import os
import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from gpubalancer.ledger.records import DamagedLineError, Entry, decode

SUFFIX = ".journal"
READ_BYTES = 1 << 20
"""Read at once: about 2,000 lines."""
_NAME = re.compile(r"(\d{20})-(\w+)-[0-9a-f]{8}\.journal")
_DECISION = re.compile(rb'"decision_id":"([^"\\]*)"')


@dataclass(frozen=True, slots=True)
class Damage:
    """Bytes of a segment that are no entry.

    Attributes:
        segment: the segment's name.
        at_bytes: where they stand.
        data: they themselves.
        why: in words.
    """

    segment: str
    at_bytes: int
    data: bytes
    why: str


@dataclass(frozen=True, slots=True)
class Part:
    """What was read of a segment: its whole lines from one offset to another.

    Attributes:
        entries: the offset of each line, and what it says.
        damaged: lines in between that say nothing.
        torn: the last line, if it is cut off and will never be completed.
        is_last: nothing will ever follow.
    """

    segment: str
    from_bytes: int
    to_bytes: int
    entries: tuple[tuple[int, Entry], ...] = ()
    damaged: tuple[Damage, ...] = ()
    torn: Damage | None = None
    is_last: bool = False


def name_of(created_ns: int, worker: str, mark: str) -> str:
    """A segment's name: names sort by the time of creation, and the mark keeps those of several machines apart."""
    return f"{created_ns:020d}-{worker}-{mark}{SUFFIX}"


def created_ns(path: Path) -> int:
    """When a segment was begun, in nanoseconds since 1970."""
    return int(path.name[:20])


def list_segments(directory: Path) -> list[Path]:
    """All segments, the oldest first; none if there is no such directory."""
    if not directory.is_dir():
        return []
    return sorted(path for path in directory.iterdir() if _NAME.fullmatch(path.name))


def is_complete(path: Path) -> bool:
    """True if nobody will ever write to the segment again. An empty one may just have been made."""
    with path.open("rb") as file:
        if os.fstat(file.fileno()).st_size == 0:
            return False
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def read_part(path: Path, from_bytes: int, most_bytes: int = READ_BYTES) -> Part:
    """The next whole lines of a segment; `to_bytes` equals `from_bytes` when there are none yet.

    Arguments:
        path: the segment.
        from_bytes: where a line begins.
        most_bytes: how much is read at once; a line that is longer is none.

    Errors:
        OSError: the segment can't be read.
    """
    # Asked before reading: a writer that ends in between has then written everything that we see.
    complete = is_complete(path)
    with path.open("rb") as file:
        file.seek(from_bytes)
        data = file.read(most_bytes)
    end = data.rfind(b"\n") + 1
    entries, damaged = _lines(path.name, from_bytes, data[:end])
    tail = data[end:]
    if tail and end == 0 and len(data) == most_bytes:
        long = Damage(path.name, from_bytes, tail, "it is too long for a line")
        return Part(path.name, from_bytes, from_bytes + len(data), damaged=(long,))
    torn = None
    is_last = complete and len(data) < most_bytes
    if is_last and tail:
        torn = Damage(path.name, from_bytes + end, tail, "it is cut off")
        end = len(data)
    return Part(path.name, from_bytes, from_bytes + end, tuple(entries), tuple(damaged), torn, is_last)


def on_record(directory: Path, decision_ids: Collection[str], since_ns: int) -> frozenset[str]:
    """Those of some decisions that have a whole line in the journal.

    Arguments:
        directory: the journal's.
        decision_ids: which are looked for.
        since_ns: the earliest that their lines can have been written, in nanoseconds since 1970; segments that were not
            touched since are not read.
    """
    wanted, found = {each.encode() for each in decision_ids}, set()
    for path in list_segments(directory):
        if wanted and path.stat().st_mtime_ns >= since_ns:
            for line in path.read_bytes().splitlines(keepends=True):
                match = _DECISION.search(line)
                if match and match[1] in wanted and _is_whole(line):
                    found.add(match[1].decode())
    return frozenset(found)


def _is_whole(line: bytes) -> bool:
    try:
        decode(line.removesuffix(b"\n"))
    except DamagedLineError:
        return False
    return line.endswith(b"\n")


def _lines(name: str, at_bytes: int, data: bytes) -> tuple[list[tuple[int, Entry]], list[Damage]]:
    entries: list[tuple[int, Entry]] = []
    damaged: list[Damage] = []
    for line in data.split(b"\n")[:-1]:
        try:
            entries.append((at_bytes, decode(line)))
        except DamagedLineError as error:
            damaged.append(Damage(name, at_bytes, line, str(error)))
        at_bytes += len(line) + 1
    return entries, damaged
