"""Record locks: who is kept out, and when."""

import os
from pathlib import Path

from gpubalancer.board import locks


def test_another_opening_is_kept_out_until_the_lock_is_given_back(tmp_path: Path) -> None:
    """Two openings of one file exclude each other on the same byte."""
    path = tmp_path / "file"
    path.touch()
    first, second = os.open(path, os.O_RDWR), os.open(path, os.O_RDWR)
    assert locks.try_lock(first, 5)
    assert not locks.try_lock(second, 5)
    locks.unlock(first, 5)
    assert locks.try_lock(second, 5)
    os.close(first)
    os.close(second)


def test_different_bytes_do_not_disturb_each_other(tmp_path: Path) -> None:
    """A lock covers one byte and not its neighbour."""
    path = tmp_path / "file"
    path.touch()
    first, second = os.open(path, os.O_RDWR), os.open(path, os.O_RDWR)
    assert locks.try_lock(first, locks.ROW_BYTE)
    assert locks.try_lock(second, locks.ROW_BYTE + 1)
    os.close(first)
    os.close(second)


def test_closing_the_descriptor_gives_the_lock_back(tmp_path: Path) -> None:
    """The kernel drops a lock with the last descriptor of its opening, as it does for a killed process."""
    path = tmp_path / "file"
    path.touch()
    first, second = os.open(path, os.O_RDWR), os.open(path, os.O_RDWR)
    assert locks.try_lock(first, 5)
    os.close(first)
    assert locks.try_lock(second, 5)
    os.close(second)


def test_reopen_gives_locks_of_its_own_even_after_a_rename(tmp_path: Path) -> None:
    """A reopened descriptor is the same file under a new opening."""
    path = tmp_path / "file"
    path.touch()
    first = os.open(path, os.O_RDWR)
    path.rename(tmp_path / "moved")
    second = locks.reopen(first)
    assert os.fstat(first).st_ino == os.fstat(second).st_ino
    assert locks.try_lock(first, 5)
    assert not locks.try_lock(second, 5)
    os.close(first)
    os.close(second)
