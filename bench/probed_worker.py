"""A worker with a heart: the worker process as it is, and on its event loop a beat that notes how late it was woken.

Started by a supervisor in the place of `python -m gpubalancer worker ...`; the file that `LOOP_PROBE` names is shared
with whoever reads the figures (`bench.loop_hold`).

    python -m bench.probed_worker -m gpubalancer worker ...
"""

import asyncio
import os
import sys
import time
from pathlib import Path

import numpy as np
import uvloop

from gpubalancer import logs
from gpubalancer.app import work

BEAT_S = 0.0005
CPU_MS, LATE_MS = 0, 1
"""What the file's numbers are: the longest that the loop's thread computed between two beats; and the longest that a
beat was late while this process computed, another thread of it included, which may have kept the interpreter's lock.
Time in which others had the core is in neither. Who reads them sets them back to 0."""


def figures(path: Path, *, create: bool = False) -> "np.memmap[tuple[int], np.dtype[np.float64]]":
    """The shared numbers."""
    return np.memmap(path, np.float64, "w+" if create else "r+", shape=(2,))


async def beat(path: Path) -> None:
    """Note the longest holds, for ever."""
    longest = figures(path)
    while True:
        asked_s, used_s, all_used_s = time.perf_counter() + BEAT_S, time.thread_time(), time.process_time()
        await asyncio.sleep(BEAT_S)
        late_s = min(time.perf_counter() - asked_s, time.process_time() - all_used_s)
        longest[CPU_MS] = max(longest[CPU_MS], (time.thread_time() - used_s) * 1e3)
        longest[LATE_MS] = max(longest[LATE_MS], late_s * 1e3)


async def run(path: Path, index: int, channel_fd: int, listen_fd: int, board: Path, via: str) -> None:
    """A worker's life, watched."""
    heart = asyncio.create_task(beat(path))
    try:
        await work(index, channel_fd, listen_fd, board, via)
    finally:
        heart.cancel()


def main() -> None:
    """Take the options of a worker."""
    given = sys.argv[sys.argv.index("worker") + 1 :]
    options = dict(zip(given[::2], given[1::2], strict=True))
    logs.configure()
    fds = int(options["--channel-fd"]), int(options["--listen-fd"])
    probe = Path(os.environ["LOOP_PROBE"])
    uvloop.run(run(probe, int(options["--index"]), *fds, Path(options["--board"]), options["--via"]))


if __name__ == "__main__":
    main()
