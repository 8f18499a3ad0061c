"""The store of budgets on the board, as requests use it: nothing of it waits, and what can't be had is a refusal."""

from gpubalancer.board.budget_locks import BusyError
from gpubalancer.board.budget_reservation import Reservation
from gpubalancer.board.budgets import Till
from gpubalancer.domain.budget import Claims, Refusal, Spending
from gpubalancer.domain.errors import RequestError


class LocalStore:
    """One worker's till as a `Store`.

    Attributes:
        now_ns: the clock that all workers share.
        settle_late: settles what was put off.
        close: lets everything go.
    """

    def __init__(self, till: Till) -> None:
        self._till = till
        self.now_ns = till.now_ns
        self.settle_late = till.settle_late
        self.close = till.close

    @property
    def late(self) -> int:
        """Settlements that were put off."""
        return self._till.late

    def enter(self, label: bytes) -> Reservation:
        """Write down a request that no budget counts.

        Raises:
            RequestError: `overloaded` if the disk is full.
        """
        try:
            return self._till.enter(self.now_ns(), label)
        except OSError:
            raise _no_room() from None

    async def reserve(self, claims: Claims, expected: Spending, label: bytes = b"") -> Reservation | Refusal:
        """Reserve in all of a request's budgets or in none.

        Raises:
            RequestError: `overloaded` if another process holds a lock, or the disk is full.
        """
        try:
            return self._till.reserve(claims, expected, self.now_ns(), label)
        except BusyError:
            raise RequestError("overloaded", "The budgets could not be read in time.", retry_after_s=1) from None
        except OSError:
            raise _no_room() from None


def _no_room() -> RequestError:
    return RequestError("overloaded", "There is no room to write a reservation.", retry_after_s=5)
