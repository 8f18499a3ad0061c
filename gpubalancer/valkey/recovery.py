"""What workers that are gone had in flight on the shared budgets, recorded and settled by the supervisor.

A dead worker's slots are put aside under another name, so that its row is free for the next worker, and settled from
there when the server can be reached. A slot goes when the server has said that it is done, and the file with its last
slot. Settling again what a worker had sent already does nothing, so that nobody need know how far it was.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from gpubalancer.board.budget_layout import SLOT_CELLS, SLOT_OP, Slot
from gpubalancer.board.budget_recovery import Left, left_in
from gpubalancer.board.budget_slots import SlotFile
from gpubalancer.domain.budget import NOTHING, Claims
from gpubalancer.valkey.claims_text import Texts, write_spending
from gpubalancer.valkey.outbox import Outbox, Parcel
from gpubalancer.valkey.store import UNSURE

ClaimsOf = Callable[[bytes], Claims | None]
"""The claims of a request by its label, None if no budget counts it any more."""


class Leftovers:
    """The slots of workers that are gone.

    Arguments:
        folder: where the slots are.
        outbox: settles.
        claims_of: for requests that the server may know nothing of.
        now_ns: the server's time.
    """

    def __init__(self, folder: Path, outbox: Outbox, claims_of: ClaimsOf, now_ns: Callable[[], int]) -> None:
        self._folder = folder
        self._outbox = outbox
        self._claims_of = claims_of
        self._now_ns = now_ns
        self._texts = Texts()
        self._open: dict[Path, int] = {}

    def __repr__(self) -> str:
        return f"<Leftovers of {len(self._open)} workers, {sum(self._open.values())} requests>"

    def put_aside(self, path: Path) -> None:
        """Take over the slots of a worker that is gone. Errors: OSError."""
        number = 0
        while (aside := path.with_name(f"{path.stem}.left-{number}")).exists():
            number += 1
        path.rename(aside)

    def settle(self, record: Callable[[Left], None]) -> None:
        """Record and settle all that has been put aside and is not on its way.

        Errors:
            OSError: `record` can't now; what it did not get is settled with the next call.
        """
        for path in sorted(self._folder.glob("*.left-*")):
            if path not in self._open:
                self._settle(path, record)

    def _settle(self, path: Path, record: Callable[[Left], None]) -> None:
        slots = SlotFile(path)
        try:
            parcels = self._record(path, slots, record)
        except OSError:
            slots.close()
            raise
        self._open[path] = len(parcels)
        if not parcels:
            self._close(path, slots)
        for parcel in parcels:
            self._outbox.put(parcel)

    def _record(self, path: Path, slots: SlotFile, record: Callable[[Left], None]) -> list[Parcel]:
        """Record each request; returns what is to be settled.

        What it is settled for stands in the slot before it is recorded: whoever reads the slot again knows that it may
        be on record.
        """
        parcels = []
        for slot in [slot for slot in slots.used() if slots.is_sane(slot, UNSURE + 1)]:
            session, _, label = slots.label(slot).partition(b"\n")
            left = replace(left_in(slots, slot), label=label)
            slots.note(slot, left.spending)
            slots.cells[slot * SLOT_CELLS] = Slot.SETTLED
            record(left)
            if slots.rows(slot):
                parcels.append(self._parcel(session.decode(), left, path, slots, slot))
        return parcels

    def _parcel(self, session: str, left: Left, path: Path, slots: SlotFile, slot: int) -> Parcel:
        is_unsure = slots.rows(slot)[0] == UNSURE and left.spending != NOTHING
        claims = self._claims_of(left.label) if is_unsure else None
        text = self._texts.of(claims, self._now_ns()).data if claims is not None else b""

        def done() -> None:
            slots.cells[slot * SLOT_CELLS] = Slot.FREE
            self._open[path] -= 1
            if not self._open[path]:
                self._close(path, slots)

        number = slots.cells[slot * SLOT_CELLS + SLOT_OP]
        return Parcel(session, number, write_spending(left.spending), text, bool(text), done)

    def _close(self, path: Path, slots: SlotFile) -> None:
        slots.close()
        path.unlink()
        del self._open[path]
