"""One try at one backend: get a connection, send the request, wait for the head of the answer.

What was read of a request (JSON) can be sent again: in one piece or, if it is large, in the pieces that it came in, as
fast as the backend takes them. What was not read (an upload) is passed on as it comes. While pieces are sent, the
answer is already awaited: a backend may refuse a body before its end.
"""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from gpubalancer.brain.retry import Attempted
from gpubalancer.domain.work import Work
from gpubalancer.policy.routing import Timeouts
from gpubalancer.wire.exchange import Exchange
from gpubalancer.wire.forward import request_lines
from gpubalancer.wire.heads import ResponseHead
from gpubalancer.wire.pool import Pool
from gpubalancer.wire.upstream import Upstream
from gpubalancer.wire.upstream_error import UpstreamError

_LAST_CHUNK = b"0\r\n\r\n"


class Attempt:
    """One try. Give its connection back with `finish`, whatever happened.

    Attributes:
        sent_s: when the request went out; 0.0 if it did not.
        upstream: the connection; None before there is one.
    """

    __slots__ = ("_body_spent", "_clock", "_pool", "sent_s", "upstream")

    def __init__(self, pool: Pool, clock: Callable[[], float]) -> None:
        self.sent_s = 0.0
        self.upstream: Upstream | None = None
        self._pool = pool
        self._clock = clock
        self._body_spent = False

    async def run(
        self,
        exchange: Exchange,
        work: Work,
        content: Sequence[bytes] | None,
        via: bytes,
        request_id: bytes,
        timeouts: Timeouts,
    ) -> ResponseHead:
        """Send the request and wait for the head of its answer.

        Arguments:
            exchange: whose request it is.
            work: its classification.
            content: the body in pieces; None if it is passed on as it comes.
            via: our name in Via.
            request_id: sent along.
            timeouts: `routing.timeouts`.

        Raises:
            UpstreamError: there is no answer.
            RequestError: the rest of the client's body can't be had.
        """
        head, pool = exchange.head, self._pool
        length = head.length if head.has_body else None
        if content is not None and head.has_body:
            length = len(content[0]) if len(content) == 1 else sum(map(len, content))
        upstream = self.upstream = pool.take_nowait() or await pool.connect()
        now_s = self._clock()
        data = request_lines(
            head,
            pool.endpoint.origin,
            via=via,
            request_id=request_id,
            length=length,
            upgrade=work.upgrade,
            plain=content is not None,
        )
        self.sent_s = now_s
        in_pieces = head.has_body and (content is None or len(content) > 1)
        upstream.send(
            data + content[0] if content and not in_pieces else data,
            wait_s=min(timeouts.first_byte_s, work.deadline_s - now_s),
            between_s=timeouts.between_bytes_s,
            more=in_pieces,
            silent=head.method == "HEAD",
            upgrade=work.upgrade,
        )
        if not in_pieces:
            return await upstream.answer
        if content is None:
            return await self._answer_while_sending(self._pass_on(exchange, upstream), upstream)
        return await self._answer_while_sending(_send_pieces(content, upstream), upstream)

    @staticmethod
    async def _answer_while_sending(body: Coroutine[Any, Any, None], upstream: Upstream) -> ResponseHead:
        sending = asyncio.ensure_future(body)
        try:
            await asyncio.wait((sending, upstream.answer), return_when=asyncio.FIRST_COMPLETED)
            if sending.done() and not upstream.answer.done():
                sending.result()
            return await upstream.answer
        finally:
            sending.cancel()

    async def _pass_on(self, exchange: Exchange, upstream: Upstream) -> None:
        chunked = exchange.head.chunked
        upstream.throttle(exchange.hold)
        exchange.invite_body()

        def pass_on(piece: bytes) -> None:
            self._body_spent = True
            upstream.write(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)

        exchange.body.pipe(pass_on)
        await exchange.body.finished()
        upstream.end_request(_LAST_CHUNK if chunked else b"")

    def failed(self, error: UpstreamError) -> Attempted:
        """What is known of this try after it has failed."""
        return Attempted(
            connected=error.phase != "connect",
            reused=error.reused,
            silent=error.silent,
            timed_out=error.timed_out,
            body_spent=self._body_spent,
        )

    def finish(self) -> None:
        """Give the connection back, or close it where its answer has not been taken whole."""
        upstream, self.upstream = self.upstream, None
        if upstream is not None:
            self._pool.give_back(upstream)


async def _send_pieces(pieces: Sequence[bytes], upstream: Upstream) -> None:
    """Send a large body, a piece in each turn of the loop: 32 MB at once would hold it for 20 ms."""
    writable = asyncio.Event()
    writable.set()
    upstream.throttle(lambda takes_more: writable.set() if takes_more else writable.clear())
    for piece in pieces:
        await writable.wait()
        upstream.write(piece)
        await asyncio.sleep(0)
    upstream.end_request(b"")
