"""Segments: which are complete, and what is whole in them."""

import fcntl
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpubalancer.ledger.records import encode
from gpubalancer.ledger.segments import created_ns, is_complete, list_segments, name_of, on_record, read_part
from tests.ledger.entries import NOON_NS, entry

LINES = [encode(entry(number)) for number in range(3)]
ENDS = [sum(map(len, LINES[:count])) for count in range(4)]


def segment(directory: Path, data: bytes, worker: str = "1") -> Path:
    """A segment that nobody writes to."""
    path = directory / name_of(NOON_NS, worker, "0a0a0a0a")
    path.write_bytes(data)
    return path


def test_segments_are_listed_from_the_oldest(tmp_path: Path) -> None:
    """Names sort by time; other files in the folder are none of ours."""
    names = [name_of(at_ns, "7", "0a0a0a0a") for at_ns in (5, NOON_NS, 60)]
    for name in (*names, "notes.txt", names[0] + ".damaged-7"):
        (tmp_path / name).touch()
    assert [path.name for path in list_segments(tmp_path)] == [names[0], names[2], names[1]]
    assert created_ns(tmp_path / names[1]) == NOON_NS
    assert list_segments(tmp_path / "missing") == []


def test_a_segment_is_complete_when_its_lock_is_free(tmp_path: Path) -> None:
    """Its writer's lock says that more may come; an empty one may just have been made."""
    path = segment(tmp_path, LINES[0])
    with path.open("ab") as writer:
        fcntl.flock(writer, fcntl.LOCK_EX)
        assert not is_complete(path)
    assert is_complete(path)
    assert not is_complete(segment(tmp_path, b"", "2"))


@given(st.integers(0, ENDS[3]))
def test_whole_lines_are_read_wherever_the_file_ends(tmp_path_factory: pytest.TempPathFactory, size: int) -> None:
    """A segment cut at any byte gives the lines before, and of a complete one the torn rest is told."""
    path = segment(tmp_path_factory.mktemp("cut"), b"".join(LINES)[:size])
    whole = sum(end <= size for end in ENDS[1:])
    part = read_part(path, 0)
    assert [(at, each.decision_id) for at, each in part.entries] == [(ENDS[at], f"d{at}") for at in range(whole)]
    assert (part.torn.at_bytes if part.torn else size) == ENDS[whole]
    assert (part.to_bytes, part.is_last) == (size, size > 0)


def test_a_line_that_is_being_written_is_waited_for(tmp_path: Path) -> None:
    """While the writer lives, the beginning of a line is no damage, and reading goes on from there."""
    path = segment(tmp_path, LINES[0] + LINES[1][:50])
    with path.open("ab", buffering=0) as writer:
        fcntl.flock(writer, fcntl.LOCK_EX)
        part = read_part(path, 0)
        assert (len(part.entries), part.to_bytes, part.torn, part.is_last) == (1, ENDS[1], None, False)
        writer.write(LINES[1][50:])
        part = read_part(path, part.to_bytes)
        assert ([each.decision_id for _, each in part.entries], part.to_bytes) == (["d1"], ENDS[2])


def test_a_damaged_line_costs_only_itself(tmp_path: Path) -> None:
    """The lines before and after it are read, and its bytes are kept."""
    bad = LINES[1].replace(b"101", b"999")
    part = read_part(segment(tmp_path, LINES[0] + bad + LINES[2]), 0)
    assert [each.decision_id for _, each in part.entries] == ["d0", "d2"]
    (damage,) = part.damaged
    assert (damage.at_bytes, damage.data, damage.why) == (ENDS[1], bad[:-1], "its checksum does not fit")


def test_a_segment_is_read_in_parts(tmp_path: Path) -> None:
    """Parts end between lines, and together they are the segment."""
    path = segment(tmp_path, b"".join(LINES))
    part = read_part(path, 0, ENDS[1] + 5)
    assert (part.to_bytes, part.is_last) == (ENDS[1], False)
    part = read_part(path, part.to_bytes)
    assert (len(part.entries), part.to_bytes, part.is_last) == (2, ENDS[3], True)


def test_garbage_without_an_end_is_passed(tmp_path: Path) -> None:
    """Bytes longer than any line are damage, and the lines behind them are found."""
    path = segment(tmp_path, b"\x00" * 2500 + b"\n" + LINES[0])
    at, damaged, entries = 0, 0, 0
    while not (part := read_part(path, at, 1000)).is_last:
        at, damaged, entries = part.to_bytes, damaged + len(part.damaged), entries + len(part.entries)
    assert (damaged + len(part.damaged), entries + len(part.entries)) == (3, 1)


def test_a_segment_shorter_than_what_was_read_gives_nothing(tmp_path: Path) -> None:
    """A machine that died may have lost the end of a file that was already taken in."""
    part = read_part(segment(tmp_path, LINES[0]), ENDS[3])
    assert (part.entries, part.to_bytes, part.torn) == ((), ENDS[3], None)


def test_what_is_on_record_is_found(tmp_path: Path) -> None:
    """Decisions with a whole line are on record; one whose line is damaged, cut off or missing is not."""
    path = segment(tmp_path, LINES[0] + LINES[1].replace(b"101", b"999") + LINES[2][:-1])
    assert on_record(tmp_path, ["d0", "d1", "d2", "d3"], 0) == {"d0"}
    assert on_record(tmp_path, [], 0) == frozenset()
    assert on_record(tmp_path, ["d0"], path.stat().st_mtime_ns + 1) == frozenset()
