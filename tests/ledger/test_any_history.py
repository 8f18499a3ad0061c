"""Whatever happens in whatever order, every whole line is in the ledger once, and the sums are right.

The model reads the segments in the most obvious way. Disks that fill up at any byte are real (`RLIMIT_FSIZE`), and so
are the files that a crash leaves.
"""

import asyncio
import contextlib
import os
import shutil
import tempfile
from itertools import combinations
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from gpubalancer.ledger.ingest import DATABASE, JOURNAL, ledger_of
from gpubalancer.ledger.journal import DAY_NS, Journal, JournalFullError
from gpubalancer.ledger.records import Entry, encode
from gpubalancer.ledger.segments import list_segments
from gpubalancer.ledger.store import BYS, Query
from gpubalancer.ledger.verify import verify
from tests.ledger.conftest import Told
from tests.ledger.entries import ENTRIES, NOON_NS, added_up, room_for, whole_lines

WORKERS = st.sampled_from(["1", "2"])
QUERIES = [by for count in (1, 2, 6) for by in combinations(BYS, count)]


class History(RuleBasedStateMachine):
    """Two workers, a disk, and a supervisor that takes lines in now and then."""

    def __init__(self) -> None:
        super().__init__()
        self.state = Path(tempfile.mkdtemp(prefix="ledger-history-"))
        self.runner = asyncio.Runner()
        self.now_ns = NOON_NS
        self.journals: dict[str, Journal] = {}
        self.acknowledged: set[str] = set()
        self.told = Told()
        self.ledger = ledger_of(self.state, None, self.told)
        self.runner.run(self.ledger.open())

    def journal(self, worker: str) -> Journal:
        """A worker's journal; it begins one if it has just been started."""
        if worker not in self.journals:
            self.journals[worker] = Journal(
                self.state / JOURNAL, worker, segment_bytes=2000, clock_ns=lambda: self.now_ns
            )
        return self.journals[worker]

    @rule(worker=WORKERS, entries=st.lists(ENTRIES, min_size=1, max_size=4), room=st.none() | st.integers(0, 3000))
    def append(self, worker: str, entries: list[Entry], room: int | None) -> None:
        """Requests end, perhaps while the disk has no room."""
        journal = self.journal(worker)
        with room_for(room) if room is not None else contextlib.nullcontext():
            for entry in entries:
                self.now_ns += 1
                with contextlib.suppress(JournalFullError):
                    journal.append(encode(entry))
                    self.acknowledged.add(entry.decision_id)
                assert journal.lost == 0

    @rule(worker=WORKERS, room=st.integers(0, 3000))
    def flush(self, worker: str, room: int) -> None:
        """Somebody has made some room."""
        with room_for(room):
            self.journal(worker).flush()

    @rule(worker=WORKERS)
    def crash(self, worker: str) -> None:
        """A worker is killed, perhaps with half a line on the disk and more in its memory."""
        journal = self.journals.pop(worker, None)
        if journal is not None and journal._fd >= 0:
            os.close(journal._fd)

    @rule(worker=WORKERS)
    def stop(self, worker: str) -> None:
        """A worker ends neatly, with room for all."""
        if worker in self.journals:
            self.journals.pop(worker).close()

    @rule(days=st.integers(0, 2))
    def wait(self, days: int) -> None:
        """Time passes."""
        self.now_ns += days * DAY_NS

    @rule()
    def ingest(self) -> None:
        """The supervisor takes in what is there."""
        self.runner.run(self.ledger.catch_up())

    @rule(damages=st.booleans())
    def restart(self, damages: bool) -> None:
        """The supervisor is started again, perhaps on a database that is none any more."""
        self.runner.run(self.ledger.close())
        if damages:
            (self.state / DATABASE).write_bytes(b"damaged " * 600)
        self.ledger = ledger_of(self.state, None, self.told)
        self.runner.run(self.ledger.open())

    @invariant()
    def nothing_is_damaged(self) -> None:
        """Torn lines there may be, damaged ones never."""
        assert "journal damaged" not in self.told.names

    def teardown(self) -> None:
        """After one more taking in, ledger and journal agree with the obvious model."""
        try:
            self.runner.run(self.check())
        finally:
            self.runner.run(self.ledger.close())
            self.runner.close()
            for worker in list(self.journals):
                self.crash(worker)
            shutil.rmtree(self.state)

    async def check(self) -> None:
        """Compare."""
        await self.ledger.catch_up()
        lines = whole_lines(list_segments(self.state / JOURNAL))
        ids = [line["decision_id"] for line in lines]
        assert self.acknowledged <= set(ids)
        assert len(ids) == len(set(ids))
        for by in QUERIES:
            found = {keys: list(sums) for keys, sums in await self.ledger.store.usage(Query(by))}
            expected = added_up(lines, by)
            assert {keys: [row[0], *row[2:]] for keys, row in found.items() if row[0] or any(row[2:])} == expected
        verdict = await verify(self.state / JOURNAL, self.ledger.store)
        assert verdict.agrees, verdict.faults
        assert verdict.ledger.requests + verdict.ledger.unserved == len(lines)


TestHistory = History.TestCase
TestHistory.__doc__ = "Any history leaves every whole line in the ledger exactly once."
TestHistory.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
