"""Who has read which beginnings of prompts: a table of fixed size that all workers share, without a lock.

    file    one page with a secret salt, then sets
    set     one cache line of eight entries; a beginning's hash says which set
    entry   one word of 64 bits: 32 bits of the hash (bits 63..32) | second it was entered (31..16) | board row (15..0)

An entry is written as one aligned word, so that no reader ever sees half of one. Which of its set's eight places it
takes follows from hash and row: writing is one store, nothing is looked for or moved, and what was there is forgotten.
The same beginning on eight backends of neighbouring rows has eight places. A reader looks through the whole set.

An entry counts while its backend may still hold what it says: not from before `cached_since_s` of the backend's row on
the board (it was restarted, or has read more since than its cache holds), nor older than the caller's limit. Seconds
are kept modulo 65,536 (18 hours); an entry that is older and was never overwritten looks younger than it is, and a
guess that is wrong costs what no guess would have cost.

The supervisor makes the file anew at each start: what engines hold is not known after one.
"""

import mmap
import os
import secrets
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from gpubalancer.board.board import Board

SET_BYTES, WAYS = 64, 8
PAGE_BYTES = 4096
LEAST_BYTES = 64 * 1024
_SECONDS = 0xFFFF
_PLACE = struct.Struct("<HH")
"""Row and second, the lower half of an entry."""
MOST_AGE_S = 12 * 3600
"""Longest limit on an entry's age, well below where seconds begin anew."""


class Prefixes:
    """The mapped file. Make one with `create` (supervisor) or `attach` (worker, reader).

    Attributes:
        salt: a secret of 64 bits that all chains of this table begin with.
    """

    def __init__(self, fd: int, board: Board) -> None:
        """Takes the descriptor over, and closes it."""
        size_bytes = os.fstat(fd).st_size
        self._memory = mmap.mmap(fd, size_bytes)
        os.close(fd)
        self.salt = int.from_bytes(self._memory[:8], "little")
        self._mask = (size_bytes - PAGE_BYTES) // SET_BYTES - 1
        self._words = memoryview(self._memory)[PAGE_BYTES:].cast("Q")
        self._since_s = board.cells("cached_since_s")

    @classmethod
    def create(cls, path: Path, size_bytes: int, board: Board) -> Self:
        """An empty table of at most this size, in place of whatever was there.

        Arguments:
            path: of the file.
            size_bytes: at least `LEAST_BYTES`; rounded down to a power of two.
            board: whose rows the entries name.

        Errors:
            OSError: the file cannot be made, or the disk is full.
        """
        path.unlink(missing_ok=True)
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        # Blocks are reserved now: a full disk must be an error here, not a SIGBUS in a worker later.
        os.posix_fallocate(fd, 0, PAGE_BYTES + (1 << (size_bytes.bit_length() - 1)))
        os.pwrite(fd, secrets.token_bytes(8), 0)
        return cls(fd, board)

    @classmethod
    def attach(cls, path: Path, board: Board) -> Self | None:
        """The table that a supervisor has made; None if there is none.

        Errors:
            OSError: it cannot be opened.
        """
        try:
            return cls(os.open(path, os.O_RDWR | os.O_CLOEXEC), board)
        except FileNotFoundError:
            return None

    @property
    def size_bytes(self) -> int:
        """Of all entries."""
        return self._words.nbytes

    def find(self, names: Sequence[int], now_s: int, most_age_s: int) -> dict[int, int]:
        """By board row, the longest of these beginnings that its backend has read, as a place counted from 1.

        A miss may be an entry that was overwritten, so it takes two in a row to end the search.

        Arguments:
            names: hashes of beginnings, the shortest first.
            now_s: whole seconds of the monotonic clock.
            most_age_s: what was entered longer ago does not count; `MOST_AGE_S` at most.
        """
        found: dict[int, int] = {}
        deepest = depth = missed = 0
        most_age_s = min(most_age_s, MOST_AGE_S)
        # Every second one, and the one between the last hit and the first miss: half the loads, and only backends that
        # hold less than another are taken for holding one beginning less than they do.
        while depth < len(names) and missed < 2:
            depth = min(depth + 2, len(names))
            if self._look(names[depth - 1], depth, now_s, most_age_s, found):
                deepest, missed = depth, 0
            else:
                missed += 1
        if 0 < deepest < len(names) and deepest + 1 != depth:
            self._look(names[deepest], deepest + 1, now_s, most_age_s, found)
        return found

    def _look(self, name: int, depth: int, now_s: int, most_age_s: int, found: dict[int, int]) -> bool:
        """Note who has read one beginning; True if anybody has."""
        start = PAGE_BYTES + (name & self._mask) * SET_BYTES
        line, tag = self._memory[start : start + SET_BYTES], (name >> 32).to_bytes(4, "little")
        at, hit = line.find(tag), False
        while at >= 0:
            if at & 7 == 4:
                row, second = _PLACE.unpack_from(line, at - 4)
                age_s = now_s - second & _SECONDS
                if age_s <= most_age_s and now_s - age_s >= self._since_s[row]:
                    found[row] = depth
                    hit = True
            at = line.find(tag, at + 1)
        return hit

    def enter(self, names: Sequence[int], row: int, now_s: int) -> None:
        """The backend at a row has read all these beginnings."""
        mask, words, stamp = self._mask, self._words, (now_s & _SECONDS) << 16 | row
        for name in names:
            words[(name & mask) * WAYS + (row + (name >> 24) & 7)] = name >> 32 << 32 | stamp


def open_table(path: Path, size_bytes: int, board: Board) -> Prefixes | None:
    """An empty table, as `Prefixes.create`; None, and no file, where it would have less than `LEAST_BYTES`."""
    if size_bytes >= LEAST_BYTES:
        return Prefixes.create(path, size_bytes, board)
    path.unlink(missing_ok=True)
    return None
