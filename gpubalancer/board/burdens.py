"""What one worker's requests weigh on each backend: tokens to be read, and tokens that are held.

Beside the slots, each worker counts for each backend the uncached prompt tokens that it has sent and whose first token
has not come, and the tokens of all its requests there. Its own cells have one writer, so no lock is needed; the sums
over all workers are what a choice looks at.

It also counts, without end, how long each backend has worked for us, and the prompt tokens that were read there. What
was added to the latter between a request's first token and its last is what others' prompts have kept it waiting for.
"""

import numpy as np
from numpy.typing import NDArray

from gpubalancer.board.board import Board
from gpubalancer.board.slots import Slots


class Burden:
    """One request's weight on one backend. `read` and `end` may be called in any order and as often as one likes."""

    __slots__ = ("_before_tokens", "_burdens", "_cell", "_context_tokens", "_prefill_tokens")

    def __init__(self, burdens: "Burdens", cell: int, prefill_tokens: int, context_tokens: int) -> None:
        self._burdens = burdens
        self._cell = cell
        self._prefill_tokens = prefill_tokens
        self._context_tokens = context_tokens
        self._before_tokens = -1
        burdens.prefill[cell] += prefill_tokens
        burdens.context[cell] += context_tokens
        burdens.sent[cell] += 1

    def read(self) -> None:
        """The first token has come: the prompt has been read."""
        if self._cell < 0 or self._before_tokens >= 0:
            return
        self._burdens.read[self._cell] += self._prefill_tokens
        self._unload()
        self._before_tokens = self._burdens.read_by_all(self._cell)

    def others_read_tokens(self) -> int:
        """Prompt tokens of others that the backend has read since our first token; 0 before that and after the end."""
        if self._cell < 0 or self._before_tokens < 0:
            return 0
        # A worker that died takes its count with it.
        return max(0, self._burdens.read_by_all(self._cell) - self._before_tokens)

    def worked(self, seconds: float) -> None:
        """So long the backend has worked for the request; nothing after its end."""
        if self._cell >= 0:
            self._burdens.worked_us[self._cell] += int(seconds * 1e6)

    def end(self) -> None:
        """The request is no longer there."""
        if self._cell < 0:
            return
        self._unload()
        self._burdens.context[self._cell] -= self._context_tokens
        self._burdens.ended[self._cell] += 1
        self._cell = -1

    def _unload(self) -> None:
        self._burdens.prefill[self._cell] -= self._prefill_tokens
        self._prefill_tokens = 0


class Burdens:
    """One worker's cells.

    Arguments:
        board: attached.
        slots: the worker's, which own the row that is counted in.
    """

    def __init__(self, board: Board, slots: Slots) -> None:
        self.prefill = board.cells("prefill_tokens")
        self.context = board.cells("context_tokens")
        self.read = board.cells("read_tokens")
        self.worked_us = board.cells("worked_us")
        self.sent = board.cells("sent_requests")
        self.ended = board.cells("ended_requests")
        self._all_read: NDArray[np.int64] = board.all_of("read_tokens")
        self._rows_used = board.rows_used_cell()
        self._own = slots.worker_row * board.layout.backends_limit

    def add(self, row: int, prefill_tokens: int, context_tokens: int) -> Burden:
        """A request goes to the backend at `row`."""
        return Burden(self, self._own + row, prefill_tokens, context_tokens)

    def read_by_all(self, cell: int) -> int:
        """Prompt tokens that a backend has read for all workers; `cell` is this worker's of that backend."""
        rows_used = self._rows_used[0]
        return int(self.read[cell] if rows_used == 1 else self._all_read[:rows_used, cell - self._own].sum())
