"""Backends that answer with whatever bytes a script says.

A request whose target or body says `hostile` gets the script; every other one gets a good echo, on the same connection,
so that what a proxy does with a spoilt connection shows in the next answer.
"""

import asyncio
import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from tests.attack.grammar import Request
from tests.attack.recorder import EchoProtocol, Records

_RESET = struct.pack("ii", 1, 0)  # SO_LINGER on with zero seconds: close sends RST


class End(Enum):
    """What the backend does with the connection after its bytes."""

    STAY = "stay"
    FIN = "fin"
    RST = "rst"


@dataclass(frozen=True, slots=True)
class Script:
    """Bytes to send, how often the last of them again, and how to end.

    Attributes:
        pieces: written in this order, each in a turn of its own, so that they may arrive apart.
        repeat: the last piece is written so many times in all, as fast as the peer takes it.
        end: what happens to the connection.
        early: answer as soon as the head comes, and only then read the body.
    """

    pieces: Sequence[bytes]
    end: End = End.STAY
    repeat: int = 1
    early: bool = False


class HostileProtocol(EchoProtocol):
    """One connection of a scripted backend."""

    def __init__(self, records: Records, script: Script) -> None:
        super().__init__(records)
        self.script = script
        self.room = asyncio.Event()
        self.room.set()
        self.task: asyncio.Task[None] | None = None
        self.answered = False

    def pause_writing(self) -> None:
        """The peer is not reading."""
        self.room.clear()

    def resume_writing(self) -> None:
        """The peer reads again."""
        self.room.set()

    def connection_lost(self, exc: Exception | None) -> None:
        """The peer has gone: the script ends too."""
        if self.task is not None:
            self.task.cancel()

    def data_received(self, data: bytes) -> None:
        """Answer early where the script says so, else as an echo does."""
        if self.script.early and not self.answered and b"hostile" in self.pending + data:
            self.answered = True
            self.task = asyncio.get_running_loop().create_task(self.play())
        super().data_received(data)

    def answer(self, serial: int, request: Request) -> None:
        """The script for a hostile request, the truth for any other."""
        if self.answered:
            self.answered = False
        elif "hostile" in request.target or b"hostile" in request.body:
            self.task = asyncio.get_running_loop().create_task(self.play())
        else:
            super().answer(serial, request)

    async def play(self) -> None:
        """Write the script's bytes and end the connection as it says."""
        for piece in self.script.pieces[:-1]:
            self.transport.write(piece)
            await asyncio.sleep(0)
        for _ in range(self.script.repeat):
            await self.room.wait()
            if self.transport.is_closing():
                return
            self.transport.write(self.script.pieces[-1])
            await asyncio.sleep(0)
        if self.script.end is End.RST:
            sock: socket.socket = self.transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            self.transport.abort()
        elif self.script.end is End.FIN:
            self.transport.close()
