"""One try at one backend: get a connection, send the request, wait for the head of the answer.

What was read of a request (JSON) is sent in one piece and can be sent again. What was not (an upload) is passed on as
it comes, while the answer is already awaited: a backend may refuse an upload before its end.
"""

import asyncio
from collections.abc import Callable

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
        self, exchange: Exchange, work: Work, content: bytes | None, via: bytes, request_id: bytes, timeouts: Timeouts
    ) -> ResponseHead:
        """Send the request and wait for the head of its answer.

        Arguments:
            exchange: whose request it is.
            work: its classification.
            content: the body; None if it is passed on as it comes.
            via: our name in Via.
            request_id: sent along.
            timeouts: `routing.timeouts`.

        Raises:
            UpstreamError: there is no answer.
            RequestError: the rest of the client's body can't be had.
        """
        head, pool = exchange.head, self._pool
        length = len(content) if content is not None and head.has_body else head.length if head.has_body else None
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
        upstream.send(
            data + content if content else data,
            wait_s=min(timeouts.first_byte_s, work.deadline_s - now_s),
            between_s=timeouts.between_bytes_s,
            more=content is None and head.has_body,
            silent=head.method == "HEAD",
            upgrade=work.upgrade,
        )
        if content is None and head.has_body:
            return await self._answer_while_sending(exchange, upstream)
        return await upstream.answer

    async def _answer_while_sending(self, exchange: Exchange, upstream: Upstream) -> ResponseHead:
        sending = asyncio.ensure_future(self._send_body(exchange, upstream))
        try:
            await asyncio.wait((sending, upstream.answer), return_when=asyncio.FIRST_COMPLETED)
            if sending.done() and not upstream.answer.done():
                sending.result()
            return await upstream.answer
        finally:
            sending.cancel()

    async def _send_body(self, exchange: Exchange, upstream: Upstream) -> None:
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
