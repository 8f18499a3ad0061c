"""The journal as its writer sees it: one line per request, written with one `write` before the request counts as done.

Each process writes segments of its own. One file for all would need no lock either (`O_APPEND` places each write whole)
but a line that got only half its room would be continued by another process's line and spoil that as well; rotation
would have to be agreed on; and to know whether a last line is torn or still being written, a reader must know that
its writer has gone, which the lock on a file of one writer tells.

A write survives the death of the process at once, and that of the machine once it was taken in: who reads it has the
disk take it first (`ingest.py`), so that nothing here waits for a disk.

When the disk has no room, what could not be written is kept in memory, up to a limit, and written before anything else
once there is room: a line that got half its place is continued where it broke off. `append` then raises for each
request, which had been served already and is to be told so; `is_full` says whether to begin new ones.
"""

import fcntl
import os
import time
from collections.abc import Callable
from pathlib import Path

from gpubalancer.ledger.segments import name_of

SEGMENT_BYTES = 64 << 20
"""About 130,000 lines."""
KEPT_BYTES = 8 << 20
"""About 16,000 requests that ended while the disk was full: with new ones refused, more than are ever in flight."""
DAY_NS = 86_400 * 1_000_000_000
LOOK_NS = 1_000_000_000
"""How often a writer looks whether somebody has removed its segment."""
_NEWLINE = 0x0A


class JournalFullError(Exception):
    """A line could not be written.

    Attributes:
        kept: it is in memory and will be written when there is room; False if that, too, was full: it is lost.
    """

    def __init__(self, reason: str, *, kept: bool) -> None:
        super().__init__(f"the journal takes no more: {reason}")
        self.kept = kept


class Journal:
    """The segments of one process. Not for several threads at once.

    Arguments:
        directory: where segments are; made if it is missing.
        worker: letters and digits that say whose they are, for whoever reads their names.
        segment_bytes: a segment that has grown beyond is the last one's end.
        kept_bytes: the most that is kept in memory while nothing can be written.
        clock_ns: the wall clock, nanoseconds since 1970.

    Attributes:
        lost: lines that could neither be written nor kept.

    Errors:
        OSError: the directory can't be made.
    """

    def __init__(
        self,
        directory: Path,
        worker: str,
        *,
        segment_bytes: int = SEGMENT_BYTES,
        kept_bytes: int = KEPT_BYTES,
        clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        if not worker.isalnum():
            raise ValueError(f"{worker!r} is no name of letters and digits")
        directory.mkdir(parents=True, exist_ok=True)
        self.lost = 0
        self._directory, self._worker, self._clock_ns = directory, worker, clock_ns
        self._segment_bytes, self._kept_bytes = segment_bytes, kept_bytes
        self._fd = -1
        self._size_bytes = 0
        self._ends_ns = self._look_ns = 0
        self._kept = bytearray()
        self._in_line = False
        self._reason = ""

    def __repr__(self) -> str:
        full = f", full ({self._reason}), {len(self._kept)} bytes kept" if self.is_full else ""
        return f"<Journal {self._worker}: {self._size_bytes} bytes{full}, {self.lost} lost>"

    @property
    def is_full(self) -> bool:
        """True from a line that could not be written until all that was kept is."""
        return bool(self._reason)

    @property
    def kept_bytes(self) -> int:
        """How much waits in memory for room."""
        return len(self._kept)

    def append(self, line: bytes) -> None:
        """Write a line, as `records` makes them.

        Raises:
            JournalFullError: it is not in the journal yet, or never will be, as `kept` says.
        """
        if len(self._kept) + len(line) > self._kept_bytes and self.is_full and not self.flush():
            self.lost += 1
            raise JournalFullError(self._reason, kept=False)
        self._kept += line
        if not self.flush():
            raise JournalFullError(self._reason, kept=True)

    def flush(self) -> bool:
        """Write what was kept, as far as there is room; to be called now and then while the journal is full.

        Returns:
            True if nothing is left.
        """
        try:
            self._write()
        except OSError as error:
            self._reason = error.strerror or str(error)
        else:
            self._reason = ""
        return not self._reason

    def close(self) -> None:
        """Write what was kept, if there is room, and end the segment."""
        self.flush()
        self._end()

    def _write(self) -> None:
        kept = self._kept
        if not kept:
            return
        is_new = self._fd < 0 or self._is_over()
        if is_new:
            self._begin()
        while kept:
            count = os.write(self._fd, kept)
            self._size_bytes += count
            self._in_line = kept[count - 1] != _NEWLINE
            del kept[:count]

    def _is_over(self) -> bool:
        """True between two lines when the segment is full, its day is over, or somebody removed it."""
        if self._in_line:
            return False
        now_ns = self._clock_ns()
        if self._size_bytes >= self._segment_bytes or now_ns >= self._ends_ns:
            return True
        if 0 <= self._look_ns - now_ns <= LOOK_NS:
            return False
        if os.fstat(self._fd).st_nlink == 0:
            return True
        self._look_ns = now_ns + LOOK_NS
        return False

    def _begin(self) -> None:
        now_ns = self._clock_ns()
        path = self._directory / name_of(now_ns, self._worker, os.urandom(4).hex())
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            # Before the first byte: whoever finds bytes and no lock may take the segment for complete.
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(fd)
            raise
        self._end()
        self._fd, self._size_bytes = fd, 0
        self._ends_ns = (now_ns // DAY_NS + 1) * DAY_NS

    def _end(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
