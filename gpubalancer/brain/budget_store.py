"""What the proxy needs of a store of budgets, wherever it keeps them: on the board, or on a server shared by replicas.

Only reserving may take time, and only a store on another machine takes any. Settling never waits: the store may do it
later, once.
"""

from collections.abc import Callable, Coroutine
from typing import Any, Protocol

from gpubalancer.domain.budget import Claims, Refusal, Spending, Standing, Terms


class Held(Protocol):
    """What one request has reserved."""

    claims: Claims
    covered_tokens: int
    overdrawn: tuple[Terms, ...]
    """Budgets that only count, and would have refused."""

    def sent(self, prompt_tokens: int, server: bytes) -> None:
        """A backend, known by these bytes, is about to get the request."""

    def progress(self, completion_tokens: int) -> None:
        """So much of the answer has been streamed in all."""

    def rate(self, prompt_usd: float, completion_usd: float, joules: float) -> None:
        """What the backend costs: USD for a million tokens of prompt and answer, and joules for one of the answer."""

    def extend(self, more: Spending, now_ns: int, then: Callable[[bool], None]) -> bool | None:
        """Reserve more; False if it does not fit, None if that is not known yet, and `then` will be told."""

    def settle(self, spending: Spending, now_ns: int, *, keep: bool = False) -> None:
        """Put what was taken in the place of what was reserved, once."""

    def release(self, now_ns: int) -> None:
        """Give all back."""

    def forget(self) -> None:
        """The record is written."""

    def standings(self) -> list[Standing]:
        """How the budgets stood right after the reservation."""


class Store(Protocol):
    """All budgets."""

    def now_ns(self) -> int:
        """The store's time."""

    def reserve(self, claims: Claims, expected: Spending, label: bytes = b"") -> Coroutine[Any, Any, Held | Refusal]:
        """Reserve in all of a request's budgets or in none.

        Raises:
            RequestError: the budgets can't be read in time.
        """

    def settle_late(self) -> None:
        """Settle what was put off; called a few times a second."""

    def enter(self, label: bytes) -> Held:
        """Write down a request that no budget counts, so that it is on record also if this process dies.

        Raises:
            RequestError: `overloaded` if the disk is full.
        """

    @property
    def late(self) -> int:
        """Settlements that are still to be made."""

    def close(self) -> None:
        """Let everything go."""
