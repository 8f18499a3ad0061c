"""A backend that believes nothing: it keeps every byte of every connection and answers only strict requests.

Each whole request gets a serial number and a 200 answer that says what arrived. A client that reads serials back proves
which requests were its own; a serial that nobody can claim was smuggled in. Bytes that are not canonical are kept as a
verdict, and the connection is closed. A `Recorder` runs an event loop of its own in a thread, so that tests may block.
"""

import asyncio
import hashlib
import itertools
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

from tests.attack.grammar import Incomplete, NotCanonical, Request, leaks, read_request

SERIAL = "x-serial"


@dataclass(slots=True)
class Connection:
    """What one connection brought: every byte, the requests in it, and the verdict if it was not strict."""

    data: bytearray = field(default_factory=bytearray)
    requests: list[tuple[int, Request]] = field(default_factory=list)
    verdict: NotCanonical | None = None


@dataclass(slots=True)
class Records:
    """Everything that a group of backends has seen; only the backends' own thread writes."""

    connections: list[Connection] = field(default_factory=list)
    serials: Iterator[int] = field(default_factory=itertools.count)

    def requests(self) -> dict[int, Request]:
        """All whole requests by serial."""
        return {serial: request for connection in list(self.connections) for serial, request in connection.requests}

    def count(self) -> int:
        """How many whole requests have come."""
        return sum(len(connection.requests) for connection in list(self.connections))

    def violations(self) -> list[str]:
        """Everything that should never have been sent to a backend, one sentence each."""
        verdicts = [str(connection.verdict) for connection in self.connections if connection.verdict]
        leaked = [f"{leaks(request)} in {request}" for request in self.requests().values() if leaks(request)]
        return verdicts + leaked


def echo(serial: int, request: Request) -> bytes:
    """A 200 answer that tells what arrived; to HEAD an empty one, so that nobody need know the method to read it."""
    body = b"" if request.method == "HEAD" else _told(serial, request)
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nX-Serial: {serial}\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def _told(serial: int, request: Request) -> bytes:
    return json.dumps(
        {
            "serial": serial,
            "method": request.method,
            "target": request.target,
            "fields": request.fields,
            "body_bytes": len(request.body),
            "body_sha256": hashlib.sha256(request.body).hexdigest(),
        }
    ).encode()


class EchoProtocol(asyncio.Protocol):
    """One recorded connection: strict requests are answered in order, the first other byte ends it."""

    transport: asyncio.Transport

    def __init__(self, records: Records) -> None:
        self.records = records
        self.connection = Connection()
        self.pending = bytearray()
        records.connections.append(self.connection)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport to answer on."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        """Record, then answer every request that has become whole."""
        self.connection.data += data
        self.pending += data
        while self.pending and self.connection.verdict is None:
            try:
                request = read_request(bytes(self.pending))
            except Incomplete:
                return
            except NotCanonical as verdict:
                self.connection.verdict = verdict
                self.transport.close()
                return
            del self.pending[: request.size_bytes]
            serial = next(self.records.serials)
            self.connection.requests.append((serial, request))
            self.answer(serial, request)

    def answer(self, serial: int, request: Request) -> None:
        """Tell the client what arrived."""
        self.transport.write(echo(serial, request))


@contextmanager
def serving(factories: list[Callable[[], EchoProtocol]]) -> Iterator[list[int]]:
    """Serve each protocol on a port of its own on 127.0.0.1, in one thread; gives the ports."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    protocols: list[EchoProtocol] = []

    def kept(factory: Callable[[], EchoProtocol]) -> EchoProtocol:
        protocols.append(factory())
        return protocols[-1]

    async def start() -> list[asyncio.Server]:
        return [await loop.create_server(partial(kept, factory), "127.0.0.1", 0, backlog=1024) for factory in factories]

    thread.start()
    servers = asyncio.run_coroutine_threadsafe(start(), loop).result(10)
    try:
        yield [server.sockets[0].getsockname()[1] for server in servers]
    finally:
        asyncio.run_coroutine_threadsafe(_stop(servers, protocols), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


async def _stop(servers: list[asyncio.Server], protocols: list[EchoProtocol]) -> None:
    for server in servers:
        server.close()
    for protocol in protocols:
        protocol.transport.abort()
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    await asyncio.sleep(0)  # aborted transports close their sockets in the loop's next turn
