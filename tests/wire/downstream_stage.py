"""A client's connection on a stage: the test plays the client, and answers its requests by hand."""

import asyncio

from gpubalancer.wire.downstream import Downstream, Frontend
from gpubalancer.wire.exchange import Exchange
from gpubalancer.wire.limits import Limits
from gpubalancer.wire.sweep import Sweeper
from tests.wire.fakes import Clock, Transport

GET = b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n"


POST = b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n"


class Line(Transport):
    """A transport whose end can be half-closed."""

    def __init__(self) -> None:
        super().__init__()
        self.eof = False

    def can_write_eof(self) -> bool:
        """As TCP can."""
        return True

    def write_eof(self) -> None:
        """Record our end of file."""
        self.eof = True


class Door:
    """A front end whose requests the test answers by hand."""

    def __init__(self, limits: Limits | None = None, most_connections: int = 100) -> None:
        self.clock = Clock()
        self.sweeper = Sweeper(self.clock)
        self.exchanges: list[Exchange] = []
        self.cancelled: list[Exchange] = []
        self.frontend = Frontend(
            limits=limits or Limits(),
            clock=self.clock,
            sweeper=self.sweeper,
            serve=self._serve,
            refusal=lambda error: (b"x-code: %b\r\n" % error.code.encode(), b"no"),
            most_connections=most_connections,
            loop=asyncio.get_running_loop(),
        )
        self.line, self.connection = self.connect()

    def connect(self) -> tuple[Line, Downstream]:
        """A further client."""
        line, connection = Line(), Downstream(self.frontend)
        connection.connection_made(line)
        return line, connection

    async def _serve(self, exchange: Exchange) -> None:
        self.exchanges.append(exchange)
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            self.cancelled.append(exchange)
            raise

    async def send(self, *pieces: bytes) -> None:
        """Bytes of the client, and time for tasks to begin."""
        for piece in pieces:
            self.connection.data_received(piece)
        await turns()

    def sweep(self, seconds: float) -> None:
        """Let time pass."""
        self.clock.now_s += seconds
        self.sweeper.sweep()

    def paths(self) -> list[str]:
        """What has been asked so far."""
        return [exchange.head.target.path for exchange in self.exchanges]


async def turns() -> None:
    """Let whatever can go on go on."""
    for _ in range(5):
        await asyncio.sleep(0)
