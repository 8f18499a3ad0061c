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


def try_lock(fd: int, byte: int) -> bool:
    """Take the exclusive lock on one byte; False if another opening of the file holds it. Never waits."""
    try:
        fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, byte, 1, 0))
    except BlockingIOError:
        return False
    return True


def unlock(fd: int, byte: int) -> None:
    """Give the lock back. Harmless when it is not held."""
    fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _FLOCK.pack(fcntl.F_UNLCK, os.SEEK_SET, byte, 1, 0))


def reopen(fd: int) -> int:
    """Open the same file anew, whatever its name is by now: a descriptor whose locks are its own.

    Returns:
        A descriptor that the caller closes.
    """
    return os.open(f"/proc/self/fd/{fd}", os.O_RDWR | os.O_CLOEXEC)
