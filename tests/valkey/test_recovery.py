"""What workers that are gone had in flight on the shared budgets."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from gpubalancer.board.budget_layout import SLOT_CELLS, SLOT_COMPLETION, SLOT_PROMPT, SLOT_SENT, Slot
from gpubalancer.board.budget_recovery import Left
from gpubalancer.board.budget_slots import SlotFile
from gpubalancer.domain.budget import Claims, Spending
from gpubalancer.valkey.outbox import Outbox
from gpubalancer.valkey.recovery import Leftovers
from gpubalancer.valkey.store import SURE, UNSURE
from tests.board.budget_terms import bucket, claims
from tests.valkey.fake_server import play


class Server:
    """Confirms nothing until it is told to."""

    def __init__(self) -> None:
        self.steps: list[tuple[Any, ...]] = []
        self.futures: list[asyncio.Future[bytes]] = []

    def send(self, *parts: Any) -> asyncio.Future[bytes]:
        """Take a step."""
        future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self.steps.append(parts)
        self.futures.append(future)
        return future

    async def confirm(self) -> None:
        """All is done."""
        for future in self.futures:
            if not future.done():
                future.set_result(b"1 5 0")
        await asyncio.sleep(0)


def leave(path: Path) -> None:
    """The slots of a worker with five requests."""
    slots = SlotFile(path)
    for number, (rows, state) in enumerate(
        [
            ((SURE,), Slot.HELD),
            ((UNSURE,), Slot.HELD),
            ((SURE,), Slot.SETTLING),
            ((UNSURE,), Slot.RESERVING),
            ((), Slot.HELD),
        ],
        start=1,
    ):
        slot = slots.take()
        slots.begin(slot, number, 7, rows, (0,) * len(rows), b"session\nlabel %d" % number)
        if state == Slot.SETTLING:
            slots.note(slot, Spending(4, 0, 1, 1))
        elif state == Slot.HELD:
            for cell, value in ((SLOT_SENT, 1), (SLOT_PROMPT, 10), (SLOT_COMPLETION, 20 + number)):
                slots.cells[slot * SLOT_CELLS + cell] = value
        slots.cells[slot * SLOT_CELLS] = state
    slots.close()


def files(folder: Path) -> list[str]:
    """What is in a folder."""
    return sorted(path.name for path in folder.iterdir())


def leftovers(folder: Path, server: Server) -> Leftovers:
    """Of a policy in which every request counts in one bucket."""
    known: dict[bytes, Claims] = {}

    def claims_of(label: bytes) -> Claims:
        return known.setdefault(label, claims(bucket("b", 100)))

    return Leftovers(folder, Outbox(server.send), claims_of, lambda: 1_700_000_000_000_000_000)


def test_each_is_recorded_and_settled_by_what_its_slot_says(tmp_path: Path) -> None:
    """As streamed, as written, or as nothing; with its claims where the server may know nothing of it."""

    async def scene() -> None:
        leave(tmp_path / "shared.worker-3")
        server, found = Server(), list[Left]()
        left = leftovers(tmp_path, server)
        left.put_aside(tmp_path / "shared.worker-3")
        assert not (tmp_path / "shared.worker-3").exists()
        left.settle(found.append)
        assert [each.label for each in found] == [b"label %d" % number for number in range(1, 6)]
        assert [each.spending.completion_tokens for each in found] == [21, 22, 1, 0, 25]
        assert [parts[:4] for parts in server.steps] == [
            ("settle", "session", 1, b"[10,0,21,1,0,0]"),
            ("settle", "session", 2, b"[10,0,22,1,0,0]"),
            ("settle", "session", 3, b"[4,0,1,1,0,0]"),
            ("settle", "session", 4, b"[0,0,0,0,0,0]"),
        ]
        assert [parts[4] != b"" for parts in server.steps] == [False, True, False, False]
        assert repr(left) == "<Leftovers of 1 workers, 4 requests>"
        left.settle(found.append)
        assert len(found) == 5
        await server.confirm()
        assert files(tmp_path) == []

    play(scene)


def test_what_was_not_confirmed_is_settled_by_whoever_comes_next(tmp_path: Path) -> None:
    """The file stays until all is done; a second worker's is put beside it."""

    async def scene() -> None:
        for worker in (0, 1):
            leave(tmp_path / f"shared.worker-{worker}")
            leftovers(tmp_path, Server()).put_aside(tmp_path / f"shared.worker-{worker}")
        assert files(tmp_path) == ["shared.left-0", "shared.left-1"]
        leftovers(tmp_path, Server()).settle(lambda left: None)
        server = Server()
        leftovers(tmp_path, server).settle(lambda left: None)
        assert len(server.steps) == 8
        await server.confirm()
        assert files(tmp_path) == []

    play(scene)


def test_what_can_not_be_recorded_now_is_not_settled_now(tmp_path: Path) -> None:
    """A full disk: all is tried again."""

    async def scene() -> None:
        leave(tmp_path / "shared.worker-0")
        server = Server()
        left = leftovers(tmp_path, server)
        left.put_aside(tmp_path / "shared.worker-0")

        def full(each: Left) -> None:
            raise OSError("full")

        with pytest.raises(OSError, match="full"):
            left.settle(full)
        assert server.steps == []
        left.settle(lambda each: None)
        assert len(server.steps) == 4

    play(scene)


def test_what_may_be_on_record_already_is_handed_over_as_settled(tmp_path: Path) -> None:
    """A disk that is full midway, then another supervisor: the charge stays, and no descriptor stays open."""

    async def scene() -> None:
        leave(tmp_path / "shared.worker-0")
        left, found = leftovers(tmp_path, Server()), list[Left]()
        left.put_aside(tmp_path / "shared.worker-0")

        def full_midway(each: Left) -> None:
            if len(found) == 1:
                raise OSError("full")
            found.append(each)

        before = len(files(Path("/proc/self/fd")))
        for _ in range(2):
            with pytest.raises(OSError, match="full"):
                left.settle(full_midway)
            first = found.pop()
        assert len(files(Path("/proc/self/fd"))) == before
        assert (first.label, first.was_settled) == (b"label 1", True)
        left.settle(found.append)
        assert [each.was_settled for each in found] == [True, True, True, True, False]
        again = list[Left]()
        leftovers(tmp_path, Server()).settle(again.append)
        assert all(each.was_settled for each in again)
        assert [each.spending for each in again] == [each.spending for each in found]

    play(scene)


def test_a_worker_that_left_nothing_leaves_no_file(tmp_path: Path) -> None:
    """Nor is anything sent."""

    async def scene() -> None:
        SlotFile(tmp_path / "shared.worker-0").close()
        left = leftovers(tmp_path, Server())
        left.put_aside(tmp_path / "shared.worker-0")
        left.settle(lambda each: None)
        assert files(tmp_path) == []

    play(scene)
