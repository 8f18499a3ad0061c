"""What one worker's requests weigh on each backend: tokens to be read, and tokens that are held.

Beside the slots, each worker counts for each backend the uncached prompt tokens that it has sent and whose first token
has not come, and the tokens of all its requests there. Its own cells have one writer, so no lock is needed; the sums
over all workers are what a choice looks at.
"""

from gpubalancer.board.board import Board
from gpubalancer.board.slots import Slots


class Burden:
    """One request's weight on one backend. `read` and `end` may be called in any order and as often as one likes."""

    __slots__ = ("_burdens", "_cell", "_context_tokens", "_prefill_tokens")

    def __init__(self, burdens: "Burdens", cell: int, prefill_tokens: int, context_tokens: int) -> None:
        self._burdens = burdens
        self._cell = cell
        self._prefill_tokens = prefill_tokens
        self._context_tokens = context_tokens
        burdens.prefill[cell] += prefill_tokens
        burdens.context[cell] += context_tokens
        burdens.sent[cell] += 1

    def read(self) -> None:
        """The first token has come: the prompt has been read."""
        self._burdens.prefill[self._cell] -= self._prefill_tokens
        self._prefill_tokens = 0

    def end(self) -> None:
        """The request is no longer there."""
        if self._cell < 0:
            return
        self.read()
        self._burdens.context[self._cell] -= self._context_tokens
        self._burdens.ended[self._cell] += 1
        self._cell = -1


class Burdens:
    """One worker's cells.

    Arguments:
        board: attached.
        slots: the worker's, which own the row that is counted in.
    """

    def __init__(self, board: Board, slots: Slots) -> None:
        self.prefill = board.cells("prefill_tokens")
        self.context = board.cells("context_tokens")
        self.sent = board.cells("sent_requests")
        self.ended = board.cells("ended_requests")
        self._own = slots.worker_row * board.layout.backends_limit

    def add(self, row: int, prefill_tokens: int, context_tokens: int) -> Burden:
        """A request goes to the backend at `row`."""
        return Burden(self, self._own + row, prefill_tokens, context_tokens)
