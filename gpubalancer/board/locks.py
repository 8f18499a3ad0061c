"""Kernel record locks on bytes of the board's file (Linux open-file-description locks, `fcntl(2)`).

A lock belongs to one opening of the file, so that processes exclude each other only if each opened it for itself: a
descriptor inherited over `fork` shares its parent's locks. The kernel drops the lock when the last copy of the
descriptor closes, which is why a killed process can never leave one behind. Locked bytes need not exist: we lock names
beyond the end of the file, never data.
"""

import fcntl
import os
import struct

OWNER_BYTE = 1 << 40
"""Held by the supervisor that owns the board."""
WORKER_BYTE = 1 << 42
"""`WORKER_BYTE + row` is held for life by the worker that writes that row of slot counts: free means it is dead."""
ROW_BYTE = 1 << 41
"""`ROW_BYTE + row` settles who gets the contested last slot of that row."""

TRIES = 64
"""Turns at a lock before giving up where nobody may wait long, each a system call and a yield: about 0.1 ms in all."""

_FLOCK = struct.Struct("@hhqqi0q")
"""`struct flock`: l_type, l_whence, l_start, l_len, l_pid (0 for this kind of lock), padded to its alignment."""

_START = struct.Struct("@q")
_LOCK, _UNLOCK = (_FLOCK.pack(kind, os.SEEK_SET, 0, 1, 0)[:8] for kind in (fcntl.F_WRLCK, fcntl.F_UNLCK))
_ONE = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 1, 0)[16:]
"""What stands before and behind `l_start`; put together they cost half of what packing six fields does."""
_fcntl, _SET = fcntl.fcntl, fcntl.F_OFD_SETLK


def try_lock(fd: int, byte: int) -> bool:
    """Take the exclusive lock on one byte; False if another opening of the file holds it. Never waits."""
    try:
        _fcntl(fd, _SET, _LOCK + _START.pack(byte) + _ONE)
    except BlockingIOError:
        return False
    return True


def unlock(fd: int, byte: int) -> None:
    """Give the lock back. Harmless when it is not held."""
    _fcntl(fd, _SET, _UNLOCK + _START.pack(byte) + _ONE)


def reopen(fd: int) -> int:
    """Open the same file anew, whatever its name is by now: a descriptor whose locks are its own.

    Returns:
        A descriptor that the caller closes.
    """
    return os.open(f"/proc/self/fd/{fd}", os.O_RDWR | os.O_CLOEXEC)
