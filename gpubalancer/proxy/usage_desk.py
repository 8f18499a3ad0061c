"""What a tenant asks of its own usage, answered by whoever keeps the ledger: the supervisor, over the channel.

A worker has no database. It passes the question on, waits without holding anything up, and says when no answer comes.
"""

import asyncio
from collections.abc import Callable
from itertools import count
from typing import Any

import orjson

from gpubalancer.domain.errors import RequestError
from gpubalancer.proxy.channel import Message
from gpubalancer.wire.target import Target

ANSWER_S = 10.0
"""A month of 10 million requests takes the ledger up to 2 s."""
MOST_WAITING = 8
"""Questions at one time: a report may take seconds, and the ledger makes one after the other."""
DEFAULT_BY = "model"

_JSON = b"content-type: application/json\r\ncache-control: no-store\r\n"


class UsageDesk:
    """One worker's questions to the ledger.

    Arguments:
        tell: sends a message to the supervisor.
    """

    def __init__(self, tell: Callable[[Message], None]) -> None:
        self.is_open = True
        """False once there is no supervisor to ask."""
        self._tell = tell
        self._numbers = count(1)
        self._waiting: dict[int, asyncio.Future[Message]] = {}

    async def answer(self, tenant: str, target: Target) -> tuple[bytes, bytes]:
        """Header lines and body for a tenant that asks what it has spent.

        Raises:
            RequestError: `invalid_query`, `usage_unavailable`, `overloaded`.
        """
        if not self.is_open:
            raise _unavailable()
        if len(self._waiting) >= MOST_WAITING:
            raise RequestError("overloaded", "Too many ask for their usage.", retry_after_s=1)
        number, loop = next(self._numbers), asyncio.get_running_loop()
        reply = self._waiting[number] = loop.create_future()
        patience = loop.call_later(ANSWER_S, self.hear, {"number": number, "code": "usage_unavailable"})
        by, since = target.parameter("by"), target.parameter("since")
        self._tell(
            {
                "kind": "usage",
                "number": number,
                "tenant": tenant,
                "by": by if by is not None else DEFAULT_BY,
                "since": since,
            }
        )
        try:
            return _JSON, orjson.dumps(_report(await reply))
        finally:
            patience.cancel()
            self._waiting.pop(number, None)

    def hear(self, message: Message) -> None:
        """The supervisor's answer: a report, or a code and a sentence."""
        reply = self._waiting.get(message["number"])
        if reply is not None and not reply.done():
            reply.set_result(message)

    def close(self) -> None:
        """The supervisor has gone: nobody answers any more."""
        self.is_open = False
        for number in list(self._waiting):
            self.hear({"number": number, "code": "usage_unavailable"})


def _report(reply: Message) -> Any:
    if "report" in reply:
        return reply["report"]
    if reply["code"] == "invalid_query":
        raise RequestError("invalid_query", reply["message"])
    raise _unavailable()


def _unavailable() -> RequestError:
    return RequestError("usage_unavailable", "The ledger can't be read now.", retry_after_s=5)
