"""A thousand streams at once for a minute: no error, no leak, every byte as it was sent."""

import asyncio
import hashlib
import json
import time
from pathlib import Path

import pytest

from tests.e2e.backends import STREAM_HEAD, Call, backend, chunk
from tests.e2e.clients import chat, request_bytes
from tests.e2e.processes import Balancer, resident_bytes, serving

STREAMS = 1000
SOAK_S = 60.0
WARM_UP_S = 15.0
"""Until every stream has run a few times and the interpreter's pools are filled."""
EVENTS = 40
EVENT_PAUSE_S = 0.1
RSS_GROWTH_FRACTION = 0.10


END = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'


def _event(seed: str, number: int) -> bytes:
    """One token, as an engine would send it."""
    text = hashlib.sha256(f"{seed} {number}".encode()).hexdigest()
    return f'data: {{"choices":[{{"index":0,"delta":{{"content":"{text}"}},"finish_reason":null}}]}}\n\n'.encode()


async def _stream(call: Call) -> None:
    """Events that only the request's own text determines."""
    seed = json.loads(await call.body())["messages"][0]["content"]
    await call.send(STREAM_HEAD)
    for number in range(EVENTS):
        await call.send(chunk(_event(seed, number)))
        await asyncio.sleep(EVENT_PAUSE_S)
    await call.send(chunk(END) + b"0\r\n\r\n")


async def _one(port: int, seed: str) -> None:
    """Read one stream and compare all its bytes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        body = chat(messages=[{"role": "user", "content": seed}], stream=True)
        writer.write(request_bytes(body=body))
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 "), head
        data = b""
        while size := int(await reader.readline(), 16):
            data += (await reader.readexactly(size + 2))[:-2]
        assert await reader.readline() == b"\r\n"
        assert data == b"".join(_event(seed, number) for number in range(EVENTS)) + END, seed
    finally:
        writer.close()


async def _client(port: int, index: int, until_s: float) -> int:
    """One stream after another; gives how many."""
    await asyncio.sleep(index * EVENTS * EVENT_PAUSE_S / STREAMS)
    count = 0
    while time.monotonic() < until_s:
        await _one(port, f"{index}-{count}")
        count += 1
    return count


async def _soak(balancer: Balancer, worker: int) -> tuple[int, list[int]]:
    """All clients; gives the number of streams and the worker's memory from second to second, after warming up."""
    began_s, sizes = time.monotonic(), []
    clients = asyncio.gather(*(_client(balancer.port, index, began_s + SOAK_S) for index in range(STREAMS)))
    while time.monotonic() < began_s + SOAK_S and not clients.done():
        await asyncio.wait({clients}, timeout=1)
        if time.monotonic() > began_s + WARM_UP_S:
            sizes.append(resident_bytes(worker))
    return sum(await clients), sizes


@pytest.mark.soak
def test_a_thousand_streams_for_a_minute(tmp_path: Path) -> None:
    """Every stream is byte-identical to what was sent, none fails, and the worker's memory stays within 10 %."""
    with backend(_stream) as server:
        with serving(tmp_path, [server.settings(slots=2 * STREAMS)]) as balancer:
            (worker,) = balancer.workers()
            count, sizes = asyncio.run(_soak(balancer, worker))
            assert count >= STREAMS
            assert max(sizes) <= sizes[0] * (1 + RSS_GROWTH_FRACTION)
        assert len(balancer.lines(code=200)) == count == len(server.calls)
        assert len(balancer.lines()) == count
