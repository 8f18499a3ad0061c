"""The journal: one whole line per request, whatever the disk and the process do."""

import os
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpubalancer.ledger.journal import DAY_NS, Journal, JournalFullError
from gpubalancer.ledger.records import encode
from gpubalancer.ledger.segments import is_complete, list_segments, read_part
from tests.ledger.entries import NOON_NS, entry, room_for, whole_lines

LINE_BYTES = len(encode(entry()))


class Clock:
    """The wall clock, set by hand."""

    def __init__(self) -> None:
        self.now_ns = NOON_NS

    def __call__(self) -> int:
        return self.now_ns


def ids(directory: Path) -> list[str]:
    """The decisions of all whole lines, segment by segment."""
    return [line["decision_id"] for line in whole_lines(list_segments(directory))]


def test_a_line_is_in_the_file_when_append_returns(tmp_path: Path) -> None:
    """Another process sees it at once, and nobody else may read the file."""
    journal = Journal(tmp_path / "new" / "journal", "1")
    for number in range(3):
        journal.append(encode(entry(number)))
        (path,) = list_segments(tmp_path / "new" / "journal")
        assert ids(path.parent) == [f"d{each}" for each in range(number + 1)]
    assert path.stat().st_mode & 0o777 == 0o600
    assert not is_complete(path)
    journal.close()
    assert is_complete(path)


def test_who_never_appends_makes_no_file(tmp_path: Path) -> None:
    """An idle worker leaves no empty segment behind."""
    journal = Journal(tmp_path, "1")
    journal.close()
    assert list(tmp_path.iterdir()) == []


def test_a_segment_ends_when_it_is_full(tmp_path: Path) -> None:
    """Two lines reach the limit, so the third begins the next segment, and the first is complete."""
    clock = Clock()
    journal = Journal(tmp_path, "1", segment_bytes=LINE_BYTES + 1, clock_ns=clock)
    for number in range(5):
        clock.now_ns += 1
        journal.append(encode(entry(number)))
    paths = list_segments(tmp_path)
    assert [len(read_part(path, 0).entries) for path in paths] == [2, 2, 1]
    assert [is_complete(path) for path in paths] == [True, True, False]
    journal.close()
    assert ids(tmp_path) == ["d0", "d1", "d2", "d3", "d4"]


def test_a_segment_ends_with_its_day(tmp_path: Path) -> None:
    """The first line of a UTC day begins a segment, so that old days can go as files."""
    clock = Clock()
    journal = Journal(tmp_path, "1", clock_ns=clock)
    for step_ns in (0, DAY_NS // 2 - 1, 1):
        clock.now_ns += step_ns
        journal.append(encode(entry()))
    journal.close()
    assert [len(read_part(path, 0).entries) for path in list_segments(tmp_path)] == [2, 1]


def test_workers_have_segments_of_their_own(tmp_path: Path) -> None:
    """Two that begin in the same nanosecond, and even under one name, never share a file."""
    clock = Clock()
    journals = [Journal(tmp_path, worker, clock_ns=clock) for worker in ("1", "2", "2")]
    for number, journal in enumerate(journals):
        journal.append(encode(entry(number)))
    assert len(list_segments(tmp_path)) == 3
    for journal in journals:
        journal.close()


@given(room=st.integers(0, 3 * LINE_BYTES), more=st.lists(st.integers(0, LINE_BYTES), max_size=4))
def test_a_full_disk_loses_nothing(tmp_path_factory: pytest.TempPathFactory, room: int, more: list[int]) -> None:
    """Wherever the room ends, the caller is told, and the lines follow whole and in order when there is room."""
    directory = tmp_path_factory.mktemp("full")
    journal = Journal(directory, "1")
    with room_for(room):
        for number in range(room // LINE_BYTES):
            journal.append(encode(entry(number)))
        for number in range(room // LINE_BYTES, 4):
            with pytest.raises(JournalFullError) as caught:
                journal.append(encode(entry(number)))
            assert caught.value.kept
    assert journal.is_full
    for step in more:
        room += step
        with room_for(room):
            assert journal.flush() == (not journal.is_full) == (room >= 4 * LINE_BYTES)
    assert journal.flush()
    assert (journal.is_full, journal.kept_bytes, journal.lost) == (False, 0, 0)
    journal.append(encode(entry(4)))
    journal.close()
    assert ids(directory) == ["d0", "d1", "d2", "d3", "d4"]


def test_a_torn_line_of_a_killed_writer_spoils_no_other(tmp_path: Path) -> None:
    """Who comes after a writer that died in the middle of a line begins a segment of its own."""
    first = Journal(tmp_path, "1")
    first.append(encode(entry(0)))
    with room_for(LINE_BYTES + 50), pytest.raises(JournalFullError, match="File too large"):
        first.append(encode(entry(1)))
    os.close(first._fd)
    second = Journal(tmp_path, "1")
    second.append(encode(entry(2)))
    second.close()
    torn = [read_part(path, 0).torn for path in list_segments(tmp_path)]
    assert [each.data[:9] if each else None for each in torn] == [encode(entry(1))[:9], None]
    assert ids(tmp_path) == ["d0", "d2"]


def test_memory_is_bounded_and_a_loss_is_said(tmp_path: Path) -> None:
    """Beyond the limit a line is lost, which its caller hears and `lost` counts; the kept ones are not."""
    journal = Journal(tmp_path, "1", kept_bytes=2 * LINE_BYTES)
    kept = []
    with room_for(0):
        for number in range(5):
            with pytest.raises(JournalFullError) as caught:
                journal.append(encode(entry(number)))
            kept.append(caught.value.kept)
        assert repr(journal) == f"<Journal 1: 0 bytes, full (File too large), {2 * LINE_BYTES} bytes kept, 3 lost>"
    assert kept == [True, True, False, False, False]
    journal.append(encode(entry(9)))
    journal.close()
    assert (ids(tmp_path), journal.lost) == (["d0", "d1", "d9"], 3)


def test_a_segment_that_cannot_be_begun_is_a_full_disk_too(tmp_path: Path) -> None:
    """Where no file can be made, lines are kept, and written once the folder is back."""
    directory = tmp_path / "journal"
    journal = Journal(directory, "1")
    directory.rmdir()
    with pytest.raises(JournalFullError, match="No such file"):
        journal.append(encode(entry(0)))
    directory.mkdir()
    journal.append(encode(entry(1)))
    journal.close()
    assert ids(directory) == ["d0", "d1"]


def test_a_removed_segment_is_replaced(tmp_path: Path) -> None:
    """Lines after its removal go into a new file, not into one without a name."""
    journal = Journal(tmp_path, "1")
    journal.append(encode(entry(0)))
    list_segments(tmp_path)[0].unlink()
    journal.append(encode(entry(1)))
    journal.close()
    assert ids(tmp_path) == ["d1"]


def test_a_removed_segment_is_replaced_once_there_is_room(tmp_path: Path) -> None:
    """Lines that were kept because no new one could be begun don't go into the one without a name."""
    directory = tmp_path / "journal"
    journal = Journal(directory, "1")
    journal.append(encode(entry(0)))
    list_segments(directory)[0].unlink()
    directory.rmdir()
    with pytest.raises(JournalFullError):
        journal.append(encode(entry(1)))
    directory.mkdir()
    assert journal.flush()
    journal.close()
    assert ids(directory) == ["d1"]


@pytest.mark.parametrize("worker", ["", "a-b", "../x", "a b"])
def test_a_worker_has_a_name_for_files(tmp_path: Path, worker: str) -> None:
    """Names are letters and digits, so that a segment's name can be taken apart."""
    with pytest.raises(ValueError, match="letters and digits"):
        Journal(tmp_path, worker)


@pytest.mark.parametrize("seed", range(6))
def test_kill_9_loses_no_line_that_was_acknowledged(tmp_path: Path, seed: int) -> None:
    """Whenever a writer is killed, every line that it had done is whole, once, and at most one more is there."""
    random = Random(seed)
    acknowledged = []
    for worker in ("1", "2"):
        command = [sys.executable, "-m", "tests.ledger.writer", str(tmp_path), worker, "20000"]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            said = [process.stdout.readline().strip() for _ in range(random.randrange(1, 400))]
            process.kill()
            # What it had said and we had not read yet; a last word without its newline was cut off by the pipe's end.
            said += [line for line in process.stdout.read().split(b"\n") if line]
        acknowledged += [line.decode() for line in said]
    found = ids(tmp_path)
    assert len(found) == len(set(found))
    assert set(acknowledged) <= set(found)
    assert len(found) <= len(acknowledged) + 2
    assert all(is_complete(path) for path in list_segments(tmp_path) if path.stat().st_size)
