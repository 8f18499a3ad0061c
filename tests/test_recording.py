"""From requests that have ended to lines, also where their worker has died or the disk is full."""

from dataclasses import replace
from pathlib import Path

import pytest

from gpubalancer.board.budget_recovery import Left
from gpubalancer.domain.budget import Spending
from gpubalancer.domain.outcome import Outcome
from gpubalancer.recording import Recorder
from tests.ledger.conftest import Told
from tests.ledger.entries import NOON_NS, room_for, whole_lines

SPENT = Spending(10, 2, 30, 1, 4, 5)
LEFT = Left(b"", b"", NOON_NS, SPENT, was_sent=True, was_settled=False)


def ended(number: int = 0, reason: str = "") -> Outcome:
    """A request that has ended."""
    return Outcome(f"r{number}", 1.0, decision_id=f"d{number}", ended_s=2.0, reason=reason)


def ids(directory: Path) -> list[str]:
    """Whose lines there are."""
    return [line["decision_id"] for line in whole_lines(sorted(directory.glob("*.journal")))]


@pytest.fixture
def told() -> Told:
    """Who is told when there is no room."""
    return Told()


@pytest.fixture
def recorder(tmp_path: Path, told: Told) -> Recorder:
    """A worker's."""
    return Recorder(tmp_path, "worker0", told)


def test_a_request_is_a_line_when_write_returns(tmp_path: Path, recorder: Recorder) -> None:
    """Nothing waits in memory, so a kill loses nothing."""
    assert recorder.write(ended(), SPENT, NOON_NS)
    (line,) = whole_lines(tmp_path.glob("*.journal"))
    assert (line["decision_id"], line["at_us"], line["prompt_tokens"]) == ("d0", NOON_NS // 1000, 10)


def test_a_full_disk_is_told_and_what_waits_is_written_later(tmp_path: Path, recorder: Recorder, told: Told) -> None:
    """Once each way; who was refused for it leaves no line, so that refusals can't fill the memory."""
    with room_for(100):
        assert not recorder.write(ended(0), SPENT, NOON_NS)
        assert not recorder.write(ended(1), SPENT, NOON_NS)
        assert recorder.write(ended(2, reason="journal_full"), Spending(), NOON_NS)
        assert recorder.is_full
        assert not recorder.flush()
    assert recorder.flush()
    assert ids(tmp_path) == ["d0", "d1"]
    assert told.names == ["journal full", "journal has room"]
    assert recorder.lost == 0


def test_a_dead_workers_request_gets_its_line(tmp_path: Path, recorder: Recorder) -> None:
    """With what it was charged, by whoever settled it."""
    assert recorder.bury(ended(reason="worker_killed"), LEFT, NOON_NS)
    (line,) = whole_lines(tmp_path.glob("*.journal"))
    assert (line["reason"], line["completion_tokens"]) == ("worker_killed", 30)


def test_a_line_that_the_dead_worker_wrote_is_not_written_again(tmp_path: Path, recorder: Recorder) -> None:
    """One that had been settled is looked for in the journal first."""
    worker = Recorder(tmp_path, "worker1", Told())
    worker.write(ended(0), SPENT, NOON_NS)
    worker.close()
    settled = replace(LEFT, was_settled=True)
    assert not recorder.bury(ended(0), settled, NOON_NS)
    assert recorder.bury(ended(1), settled, NOON_NS)
    assert not recorder.bury(ended(1), settled, NOON_NS)
    assert sorted(ids(tmp_path)) == ["d0", "d1"]


def test_without_room_a_dead_workers_request_is_tried_again(tmp_path: Path, recorder: Recorder) -> None:
    """And has one line in the end, also if the first try had written half of it."""
    settled = replace(LEFT, was_settled=True)
    with room_for(100):
        for left in (LEFT, settled):
            with pytest.raises(OSError, match="full"):
                recorder.bury(ended(), left, NOON_NS)
    assert not recorder.bury(ended(), settled, NOON_NS)
    assert ids(tmp_path) == ["d0"]
