"""From requests that have ended to lines of the journal. Each process that knows of an end has a `Recorder` of its own.

A worker writes the line of each of its requests. What a worker had in flight when it was killed, its supervisor writes:
unless the worker had come as far as the line itself, which the journal tells.
"""

import errno
from pathlib import Path

from gpubalancer.board.budget_recovery import Left
from gpubalancer.domain.budget import Spending
from gpubalancer.domain.outcome import Outcome
from gpubalancer.ledger.ingest import Say
from gpubalancer.ledger.journal import Journal, JournalFullError
from gpubalancer.ledger.records import line_of
from gpubalancer.ledger.segments import on_record

SLACK_NS = 3600 * 1_000_000_000
"""How far the machine's clock may have been set back since a request began that is looked for in the journal."""


class Recorder:
    """One process's end of the journal. Not for several threads at once.

    Arguments:
        directory: of the journal.
        name: letters and digits that say whose lines these are.
        say: is told when there is no room, and when there is again.

    Errors:
        OSError: the directory can't be made.
    """

    def __init__(self, directory: Path, name: str, say: Say) -> None:
        self._directory, self._say = directory, say
        self._journal = Journal(directory, name)
        self._told_full = False

    @property
    def is_full(self) -> bool:
        """True while there is no room for lines."""
        return self._journal.is_full

    @property
    def lost(self) -> int:
        """Lines that could neither be written nor kept."""
        return self._journal.lost

    def write(self, outcome: Outcome, spending: Spending, at_ns: int) -> bool:
        """Write a request's line. One that was refused because there is no room has none.

        Arguments:
            outcome: how it ended.
            spending: what it was charged.
            at_ns: when it was settled, in nanoseconds since 1970.

        Returns:
            False if the line is kept in memory and written by a later `flush`.
        """
        if outcome.reason == "journal_full":
            return True
        try:
            self._journal.append(line_of(outcome, spending, at_ns // 1000))
        except JournalFullError as error:
            self._tell()
            return not error.kept
        return True

    def flush(self) -> bool:
        """Write what there was no room for; True if nothing is left to be written."""
        is_written = self._journal.flush()
        self._tell()
        return is_written

    def bury(self, outcome: Outcome, left: Left, at_ns: int) -> bool:
        """Write the line of a request whose worker has died, unless it is there.

        Returns:
            False if it was there.

        Errors:
            OSError: there is no room, or the journal can't be read.
        """
        if not self.flush():
            raise OSError(errno.ENOSPC, "the journal is full")
        since_ns = left.started_ns - SLACK_NS
        if left.was_settled and on_record(self._directory, [outcome.decision_id], since_ns):
            return False
        if not self.write(outcome, left.spending, at_ns):
            raise OSError(errno.ENOSPC, "the journal is full")
        return True

    def close(self) -> None:
        """Write what is left, if there is room, and end the segment."""
        self._journal.close()

    def _tell(self) -> None:
        if self.is_full != self._told_full:
            self._told_full = self.is_full
            self._say("journal full" if self.is_full else "journal has room", kept_bytes=self._journal.kept_bytes)
