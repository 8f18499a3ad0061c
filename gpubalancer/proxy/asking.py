"""Asking engines for the usage of a stream, and learning which refuse to be asked.

OpenAI's API tells it only where the request says `"stream_options": {"include_usage": true}`. It is added for clients
that do not say so. An engine that knows no such field may refuse the whole request: a 400 or 422 that names the field.
Nothing was generated, so the request is repeated once without it, and the engine is not asked again while its pool of
connections lives (a change of the backend's settings makes a new one).
"""

import asyncio
from weakref import WeakSet

from gpubalancer.proxy.intake import Asked
from gpubalancer.wire.pool import Pool
from gpubalancer.wire.upstream import Upstream
from gpubalancer.wire.upstream_error import UpstreamError

ASKED_APIS = frozenset(("chat", "completions"))
REFUSALS = frozenset((400, 422))
"""Bad requests, and what FastAPI says to fields that a model forbids."""
MOST_REFUSAL_BYTES = 4 * 1024 * 1024
"""FastAPI repeats the request in its answer."""

_FIELDS = (b"stream_options", b"include_usage")


class Asking:
    """Which backends are asked."""

    def __init__(self) -> None:
        self._refusers: WeakSet[Pool] = WeakSet()

    def __repr__(self) -> str:
        return f"<Asking all but {len(self._refusers)}>"

    def asks(self, pool: Pool, asked: Asked) -> bool:
        """True if this request should ask this backend for its usage."""
        return hides_usage(asked) and pool not in self._refusers

    def refused(self, pool: Pool) -> None:
        """Ask this backend no more."""
        self._refusers.add(pool)


def hides_usage(asked: Asked) -> bool:
    """True if the client streams by an API of OpenAI's without asking for usage itself."""
    document = asked.document
    return document is not None and document.streamed and not document.asks_usage and asked.work.api in ASKED_APIS


def names_field(content: bytes) -> bool:
    """True if a refusal is for what was added."""
    return any(field in content for field in _FIELDS)


class _Collected:
    """The body of an answer that is not passed on yet; a `Sink`."""

    def __init__(self) -> None:
        self.content = bytearray()
        self.overflown: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def write(self, piece: bytes, now_s: float, *, last: bool) -> None:
        """Keep a piece."""
        if len(self.content) + len(piece) <= MOST_REFUSAL_BYTES:
            self.content += piece
        elif not self.overflown.done():
            self.overflown.set_result(None)

    def write_chunk(self, chunk: bytes, piece: bytes, now_s: float) -> None:
        """Keep a piece."""
        self.write(piece, now_s, last=False)


async def read_refusal(upstream: Upstream) -> bytes:
    """The whole body of an answer whose head has come.

    Raises:
        UpstreamError: the answer broke off, or is longer than `MOST_REFUSAL_BYTES`.
    """
    collected = _Collected()
    done = upstream.relay(collected)
    if done is not None:
        await asyncio.wait((done, collected.overflown), return_when=asyncio.FIRST_COMPLETED)
        if not collected.overflown.done():
            await done
    if collected.overflown.done():
        raise UpstreamError("the refusal is endless", "body")
    return bytes(collected.content)
