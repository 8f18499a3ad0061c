"""What requests weigh, counted by each worker in cells of its own."""

from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from gpubalancer.board.board import Board
from gpubalancer.board.burdens import Burdens
from gpubalancer.board.slots import Slots


def test_a_request_weighs_until_it_is_read_and_until_it_ends(tmp_path: Path) -> None:
    """The prompt's tokens go with the first token, the context's with the end, each once."""
    board = Board.create(tmp_path / "board", workers=1, backends=2)
    row, slots = board.assign_rows(["a", "b"])["b"], Slots(board, 0)
    burden = Burdens(board, slots).add(row, 900, 1000)

    def cells() -> list[int]:
        names = ("prefill_tokens", "context_tokens", "sent_requests", "ended_requests")
        return [int(board.all_of(name)[slots.worker_row, row]) for name in names]

    assert cells() == [900, 1000, 1, 0]
    burden.read()
    burden.read()
    assert cells() == [0, 1000, 1, 0]
    burden.end()
    burden.end()
    burden.read()
    assert cells() == [0, 0, 1, 1]
    slots.close()
    board.close()


def test_workers_count_in_rows_of_their_own(tmp_path: Path) -> None:
    """The sum over the rows is what all have there."""
    board = Board.create(tmp_path / "board", workers=2, backends=1)
    row = board.assign_rows(["a"])["a"]
    slots = [Slots(board, worker) for worker in range(2)]
    burdens = [Burdens(board, own).add(row, 10, 20) for own in slots]
    assert int(board.all_of("context_tokens")[:, row].sum()) == 40
    burdens[0].end()
    assert int(board.all_of("context_tokens")[:, row].sum()) == 20
    for own in slots:
        own.close()
    board.close()


def test_what_others_were_read_meanwhile(tmp_path: Path) -> None:
    """Between a request's first token and its end the prompts count that any worker's backend read for others."""
    board = Board.create(tmp_path / "board", workers=2, backends=2)
    rows = board.assign_rows(["a", "b"])
    slots = [Slots(board, worker) for worker in range(2)]
    mine, theirs = (Burdens(board, own) for own in slots)
    before, ours = mine.add(rows["a"], 100, 0), mine.add(rows["a"], 200, 0)
    before.read()
    assert ours.others_read_tokens() == 0
    ours.read()
    assert ours.others_read_tokens() == 0
    for burdens, row, tokens in ((mine, rows["a"], 30), (theirs, rows["a"], 4), (mine, rows["b"], 5000)):
        burdens.add(row, tokens, 0).read()
    mine.add(rows["a"], 7000, 0).end()
    assert (ours.others_read_tokens(), before.others_read_tokens()) == (34, 234)
    ours.end()
    assert ours.others_read_tokens() == 0
    for own in slots:
        own.close()
    board.close()


@settings(deadline=None)  # each example makes a file of some megabytes
@given(steps=st.lists(st.tuples(st.integers(0, 4), st.sampled_from(("read", "end")))))
def test_nothing_is_left_when_all_have_ended(tmp_path_factory: object, steps: list[tuple[int, str]]) -> None:
    """Whatever the order, the cells return to zero."""
    folder = Path(str(tmp_path_factory.mktemp("board")))  # type: ignore[attr-defined]  # pytest's own factory
    board = Board.create(folder / "board", workers=1, backends=1)
    row, slots = board.assign_rows(["a"])["a"], Slots(board, 0)
    made = [Burdens(board, slots).add(row, 7 * number, 9 * number) for number in range(5)]
    for number, step in steps:
        getattr(made[number], step)()
    for burden in made:
        burden.end()
    assert int(board.all_of("prefill_tokens")[:, row].sum()) == 0
    assert int(board.all_of("context_tokens")[:, row].sum()) == 0
    slots.close()
    board.close()


def test_how_long_a_backend_has_worked_is_counted_without_end(tmp_path: Path) -> None:
    """In whole microseconds; after a request's end nothing more is added for it."""
    board = Board.create(tmp_path / "board", workers=1, backends=1)
    row, slots = board.assign_rows(["a"])["a"], Slots(board, 0)
    burdens = Burdens(board, slots)
    for _ in range(2):
        burden = burdens.add(row, 10, 20)
        burden.worked(0.25)
        burden.end()
        burden.worked(5.0)
    assert int(board.all_of("worked_us")[0, row]) == 500_000
    slots.close()
    board.close()
