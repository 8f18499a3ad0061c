"""Slots: the limit over several workers, with real processes and against a model."""

import multiprocessing
import os
import signal
import tempfile
from collections.abc import Iterator
from multiprocessing.sharedctypes import Synchronized
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from gpubalancer.board import locks
from gpubalancer.board.board import Board, BoardError
from gpubalancer.board.slots import Lease, Slots

SPAWN = multiprocessing.get_context("spawn")
DEADLINE_S = 60.0


@pytest.fixture
def board(tmp_path: Path) -> Iterator[Board]:
    """A board of four workers with the backends `a` and `b`."""
    made = Board.create(tmp_path / "board", workers=4, backends=2)
    made.assign_rows(["a", "b"])
    yield made
    made.close()


def test_a_worker_takes_up_to_the_limit(board: Board) -> None:
    """The limit's number of leases is given, then none until one is given back."""
    slots = Slots(board, 0)
    leases = [slots.take(0, 3) for _ in range(3)]
    assert slots.take(0, 3) is None
    assert slots.take(1, 3) is not None
    assert leases[0] is not None
    leases[0].release()
    assert slots.take(0, 3) is not None
    assert slots.take(0, 3) is None
    slots.close()


def test_the_limit_counts_all_workers(board: Board) -> None:
    """What one worker holds, another cannot take."""
    first, second = Slots(board, 0), Slots(board, 3)
    assert first.take(0, 2)
    assert second.take(0, 2)
    assert first.take(0, 2) is None
    assert second.take(0, 2) is None
    assert list(first.total()[:2]) == [2, 0]
    assert list(second.total()[:2]) == [2, 0]
    first.close()
    second.close()


def test_a_second_release_does_nothing(board: Board) -> None:
    """A lease gives back one slot, however often it is released."""
    slots = Slots(board, 1)
    lease, other = slots.take(0, 9), slots.take(0, 9)
    assert lease is not None
    assert other is not None
    assert (lease.row, lease.released) == (0, False)
    lease.release()
    lease.release()
    assert lease.released
    assert slots.total()[0] == 1
    slots.close()


def test_a_limit_of_zero_gives_nothing(board: Board) -> None:
    """A backend without slots is never taken, and nothing stays counted."""
    slots = Slots(board, 0)
    assert slots.take(0, 0) is None
    assert slots.total()[0] == 0
    slots.close()


def test_a_lower_limit_after_a_reload_holds(board: Board) -> None:
    """When the limit falls below what is held, nothing is given until enough came back."""
    slots = Slots(board, 0)
    leases = [lease for _ in range(4) if (lease := slots.take(0, 4))]
    assert slots.take(0, 2) is None
    leases.pop().release()
    leases.pop().release()
    assert slots.take(0, 2) is None
    leases.pop().release()
    assert slots.take(0, 2) is not None
    slots.close()


def test_one_worker_alone_reads_the_board_itself(tmp_path: Path) -> None:
    """With one worker `total` is its own row, so that it costs no sum."""
    board = Board.create(tmp_path / "board", workers=1, backends=2)
    slots = Slots(board, 0)
    total = slots.total()
    slots.take(5, 1)
    assert total[5] == 1
    assert slots.take(5, 1) is None
    slots.close()
    board.close()


@pytest.mark.parametrize("worker", [-1, 4])
def test_a_worker_that_the_board_does_not_have_is_refused(board: Board, worker: int) -> None:
    """A wrong index would write into somebody else's cells."""
    with pytest.raises(ValueError, match="of 4"):
        Slots(board, worker)


def test_a_stopped_holder_of_the_row_lock_wedges_nobody(board: Board) -> None:
    """While another process sits on the row's lock, a contested take gives up, counts nothing, and others go on."""
    other = locks.reopen(board.fd)
    assert locks.try_lock(other, locks.ROW_BYTE)
    board.in_flight[1, 0] = 1
    slots = Slots(board, 0)
    assert slots.take(0, 1) is None
    assert slots.total()[0] == 1
    assert slots.take(1, 1) is not None
    os.close(other)
    slots.close()
    slots.close()


class Rival:
    """Stands in for the fence: another worker's attempt at row 0 comes at our first fence and is gone at the third."""

    def __init__(self, board: Board) -> None:
        self.cells = board.in_flight[1]
        self.fences = 0

    def __enter__(self) -> None:
        self.fences += 1
        self.cells[0] += {1: 1, 3: -1}.get(self.fences, 0)

    def __exit__(self, *_: object) -> None:
        pass


def test_a_refusal_that_a_passing_attempt_explains_is_tried_again(board: Board) -> None:
    """Another worker's attempt that fails does not cost us the free slot that we both wanted."""
    slots = Slots(board, 0)
    slots._fence = Rival(board)  # type: ignore[assignment]
    assert slots.take(0, 1) is not None
    assert slots.total()[0] == 1
    slots.close()


def test_what_no_passing_attempt_explains_is_refused_at_once(board: Board) -> None:
    """A backend that is surely full costs no lock: only the two fences of one attempt are passed."""
    slots = Slots(board, 0)
    rival = Rival(board)
    rival.fences = 10
    slots._fence = rival  # type: ignore[assignment]
    board.in_flight[2, 0] = 8
    assert slots.take(0, 5) is None
    assert rival.fences == 12
    slots.close()


def churn(path: Path, worker: int, start: Barrier, held: "Synchronized[int]", most: "Synchronized[int]") -> None:
    """Take and release many times, telling a shared witness while a lease is held."""
    board = Board.attach(path)
    slots = Slots(board, worker)
    mine: list[Lease] = []
    start.wait(DEADLINE_S)
    for turn in range(20_000):
        if turn % 7 < 4:
            lease = slots.take(0, 10)
            if lease is not None:
                with held.get_lock():
                    held.value += 1
                    most.value = max(most.value, held.value)
                mine.append(lease)
        elif mine:
            with held.get_lock():
                held.value -= 1
            mine.pop().release()
    for lease in mine:
        with held.get_lock():
            held.value -= 1
        lease.release()


def test_four_processes_together_never_exceed_the_limit(board: Board) -> None:
    """A witness with a lock of its own sees the limit reached and never passed, and every slot comes back."""
    start, held, most = SPAWN.Barrier(4), SPAWN.Value("i", 0), SPAWN.Value("i", 0)
    workers = [SPAWN.Process(target=churn, args=(board.path, index, start, held, most)) for index in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(DEADLINE_S)
    assert [worker.exitcode for worker in workers] == [0] * 4
    assert most.value == 10
    assert not board.in_flight.any()


def race(path: Path, worker: int, start: Barrier, wins: "Synchronized[int]") -> None:
    """Take the only slot at the same moment as the others; count the rounds won."""
    slots = Slots(Board.attach(path), worker)
    for _ in range(300):
        start.wait(DEADLINE_S)
        lease = slots.take(0, 1)
        if lease is not None:
            with wins.get_lock():
                wins.value += 1
        start.wait(DEADLINE_S)
        if lease is not None:
            lease.release()


def test_a_contested_last_slot_goes_to_exactly_one(board: Board) -> None:
    """In every round of a race for one slot there is one winner: not two, and not none."""
    start, wins = SPAWN.Barrier(3), SPAWN.Value("i", 0)
    workers = [SPAWN.Process(target=race, args=(board.path, index, start, wins)) for index in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(DEADLINE_S)
    assert [worker.exitcode for worker in workers] == [0] * 3
    assert wins.value == 300


def test_a_worker_that_outlives_its_supervisor_stays_counted(tmp_path: Path) -> None:
    """After a takeover old and new workers see each other's slots, and the old ones' leases come back in their row."""
    path = tmp_path / "board"
    Board.create(path, workers=2, backends=1).close()
    old = Slots(Board.attach(path), 1)
    leases = [old.take(0, 5) for _ in range(3)]
    board = Board.create(path, workers=2, backends=1)
    new = [Slots(Board.attach(path), index) for index in range(2)]
    assert [slots.total()[0] for slots in (old, *new)] == [3, 3, 3]
    assert new[1].take(0, 5) is not None
    assert old.take(0, 5) is not None
    assert new[0].take(0, 5) is None
    assert old.take(0, 5) is None
    for lease in leases:
        assert lease is not None
        lease.release()
    assert new[0].total()[0] == 2
    assert board.in_flight.min() == 0
    board.clear_worker(1)
    assert new[0].total()[0] == 2
    old.close()
    new[1].close()
    board.clear_worker()
    assert new[0].total()[0] == 0
    new[0].close()
    board.close()


def test_takeovers_do_not_use_up_the_rows(tmp_path: Path) -> None:
    """However often supervisors follow each other, new workers find rows, and few are summed, if old ones end."""
    path = tmp_path / "board"
    previous: list[Slots] = []
    for _ in range(50):
        board = Board.create(path, workers=3, backends=1)
        assert board.in_flight.shape[0] <= 9
        present = [Slots(board, index) for index in range(3)]
        for slots in previous:
            slots.close()
        previous = present
        board.close()


def test_two_processes_never_count_in_one_row(board: Board) -> None:
    """While a worker lives, another with its index is refused; after its end the row is free and zero."""
    first = Slots(board, 2)
    first.take(0, 9)
    with pytest.raises(BoardError, match="worker 2 of 4 has no row"):
        Slots(board, 2)
    first.close()
    second = Slots(board, 2)
    assert second.total()[0] == 0
    second.close()


def hold(path: Path, worker: int, ready: Barrier) -> None:
    """Take five slots and the row's lock, and wait for the end."""
    board = Board.attach(path)
    slots = Slots(board, worker)
    leases = [slots.take(0, 10) for _ in range(5)]
    assert None not in leases
    assert locks.try_lock(locks.reopen(board.fd), locks.ROW_BYTE)
    ready.wait(DEADLINE_S)
    signal.pause()


def test_the_slots_of_a_killed_worker_come_back(board: Board) -> None:
    """After `kill -9` the slots stay counted until the supervisor clears the worker; its locks are gone at once."""
    ready = SPAWN.Barrier(2)
    worker = SPAWN.Process(target=hold, args=(board.path, 2, ready))
    worker.start()
    ready.wait(DEADLINE_S)
    assert worker.pid is not None
    os.kill(worker.pid, signal.SIGKILL)
    worker.join(DEADLINE_S)
    slots = Slots(board, 0)
    mine = [slots.take(0, 10) for _ in range(5)]
    assert None not in mine
    assert slots.take(0, 10) is None
    board.clear_worker(2)
    assert slots.total()[0] == 5
    assert [slots.take(0, 10) for _ in range(6)].count(None) == 1
    assert locks.try_lock(locks.reopen(board.fd), locks.ROW_BYTE)
    slots.close()


class SlotsMachine(RuleBasedStateMachine):
    """Three workers on one board against lists of what each holds."""

    def __init__(self) -> None:
        super().__init__()
        self.state = tempfile.TemporaryDirectory()
        self.board = Board.create(Path(self.state.name) / "board", workers=3, backends=2)
        self.slots = [Slots(self.board, index) for index in range(3)]
        self.held: list[list[Lease]] = [[], [], []]
        self.given_back: list[Lease] = []

    def count(self, row: int) -> int:
        """What the model says is held on a row."""
        return sum(lease.row == row for leases in self.held for lease in leases)

    @rule(worker=st.integers(0, 2), row=st.integers(0, 1), limit=st.integers(0, 4))
    def take(self, worker: int, row: int, limit: int) -> None:
        """A slot is given exactly when fewer than the limit are held."""
        free = self.count(row) < limit
        lease = self.slots[worker].take(row, limit)
        assert (lease is not None) == free
        if lease is not None:
            self.held[worker].append(lease)

    @precondition(lambda self: any(self.held))
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        """A lease that is released is no longer held."""
        leases = data.draw(st.sampled_from([leases for leases in self.held if leases]))
        lease = leases.pop(data.draw(st.integers(0, len(leases) - 1)))
        lease.release()
        self.given_back.append(lease)

    @precondition(lambda self: self.given_back)
    @rule()
    def release_again(self) -> None:
        """A second release changes nothing."""
        self.given_back[-1].release()

    @rule(worker=st.integers(0, 2))
    def restart(self, worker: int) -> None:
        """A worker that died and was cleared holds nothing."""
        self.slots[worker].close()
        self.board.clear_worker(worker)
        self.slots[worker] = Slots(self.board, worker)
        self.held[worker] = []

    @invariant()
    def totals_are_the_models(self) -> None:
        """Every worker sees the model's sums."""
        for slots in self.slots:
            assert list(slots.total()[:2]) == [self.count(0), self.count(1)]

    def teardown(self) -> None:
        for slots in self.slots:
            slots.close()
        self.board.close()
        self.state.cleanup()


TestSlotsMachine = SlotsMachine.TestCase
TestSlotsMachine.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
