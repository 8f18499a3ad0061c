"""Settlements on their way to the server, sent behind the answers that they are for.

Each is sent until the server has said that it is done, over however many connections; the server does it once. At most
`WINDOW` are on their way, the others wait in line, so that what an outage has heaped up does not come all at once.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

WINDOW = 256


@dataclass(slots=True)
class Parcel:
    """One settlement.

    Attributes:
        session, number: the reservation.
        spending: what was taken, as the script reads it.
        claims: the claims' text, for a server that knows nothing of the reservation.
        unsure: it may know nothing of it.
        done: called when the server has done it.
        tries: how often it was sent.
    """

    session: str
    number: int
    spending: bytes
    claims: bytes
    unsure: bool
    done: Callable[[], None]
    tries: int = 0


class Outbox:
    """What is to be settled.

    Arguments:
        send: sends a step of the script; its future fails where that can't be known to be done.
    """

    def __init__(self, send: Callable[..., asyncio.Future[Any]]) -> None:
        self._send = send
        self._line: deque[Parcel] = deque()
        self._flying = 0

    def __len__(self) -> int:
        return len(self._line) + self._flying

    def put(self, parcel: Parcel) -> None:
        """Settle this, now or later."""
        self._line.append(parcel)
        self.pump()

    def pump(self) -> None:
        """Send what waits; call it when the server is there again."""
        for _ in range(len(self._line)):
            if self._flying >= WINDOW or not self._line:
                return
            parcel = self._line.popleft()
            parcel.tries += 1
            claims = parcel.claims if parcel.unsure else b""
            future = self._send("settle", parcel.session, parcel.number, parcel.spending, claims)
            if future.done() and future.exception() is not None:
                # Nothing was sent: there is no server now.
                parcel.tries -= 1
                self._line.appendleft(parcel)
                return
            self._flying += 1
            future.add_done_callback(partial(self._told, parcel))

    def _told(self, parcel: Parcel, future: asyncio.Future[Any]) -> None:
        self._flying -= 1
        if future.cancelled() or future.exception() is not None:
            self._line.append(parcel)
            return
        if not parcel.unsure and parcel.tries == 1 and future.result().startswith(b"0"):
            # Sent once, and the server knows nothing of a reservation that it had made: it has lost it.
            parcel.unsure = True
            self._line.append(parcel)
        else:
            parcel.done()
        self.pump()
