"""A proxy between raw clients and a recording backend: one place to send bytes at, and to ask what came of them."""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.attack.balancer import balancing, recording_backend
from tests.attack.case import Case
from tests.attack.client import Exchange, exchange, pacing
from tests.attack.grammar import Request
from tests.attack.recorder import EchoProtocol, Records, serving

# What a balancer may ask a backend for itself, if it says so.
_OWN_CALLS = {"/health", "/healthz", "/v1/models", "/metrics"}


@dataclass(slots=True)
class Arena:
    """The proxy's port, what its backend saw, and the serial numbers that clients got back."""

    port: int
    records: Records
    claimed: set[int] = field(default_factory=set)

    def unclaimed(self) -> list[Request]:
        """Requests at the backend that no client got an answer to: smuggled, or sent twice."""
        return [
            request
            for serial, request in self.records.requests().items()
            if serial not in self.claimed and not _is_own_call(request)
        ]


def _is_own_call(request: Request) -> bool:
    agent = " ".join(request.values("user-agent")).lower()
    return request.target in _OWN_CALLS and request.method == "GET" and ("gpubalancer" in agent or "aiohttp" in agent)


@contextmanager
def balancer_arena(directory: Path) -> Iterator[Arena]:
    """An arena around a real balancer."""
    records = Records()
    with (
        serving([lambda: EchoProtocol(records)]) as (backend_port,),
        balancing(directory, [recording_backend(backend_port)]) as port,
    ):
        yield Arena(port, records)


async def send_all(arena: Arena, cases: Sequence[Case], lanes: int = 32) -> dict[str, Exchange]:
    """Send every row, as many at a time as there are lanes; gives the exchanges by the row's name."""
    results: dict[str, Exchange] = {}
    waiting = iter(cases)

    async def lane() -> None:
        async with pacing(arena.port, arena.claimed) as pacer:
            for case in waiting:
                wanted = len(case.answers) - case.mute
                results[case.name] = await exchange(
                    pacer, [case.raw], methods=case.methods, wanted=wanted, closes=case.closes is True
                )

    async with asyncio.TaskGroup() as group:
        for _ in range(lanes):
            group.create_task(lane())
    return results
