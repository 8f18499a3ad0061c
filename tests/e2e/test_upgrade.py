"""Protocol upgrades: on the paths that the file allows, and after the backend's own 101."""

import pytest

from tests.e2e.backends import Call, whole
from tests.e2e.clients import connect, read_to_end, read_until
from tests.e2e.conftest import Front

ASK = b"GET %b?model=m HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: k\r\n\r\n"
SWITCH = (
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: a\r\n\r\n"
)


async def _shout(call: Call) -> None:
    """Switch, greet at once, and answer every piece in capitals."""
    await call.send(SWITCH + b"greeting")
    while piece := await call.reader.read(1024):
        await call.send(piece.upper())
    call.writer.close()


async def _decline(call: Call) -> None:
    await call.send(whole(b'{"no": true}', "426 Upgrade Required"))


def test_an_upgrade_on_an_allowed_path(front: Front) -> None:
    """After the backend's 101 bytes pass both ways unchanged, and one side's end ends the other."""
    front.server.handler = _shout
    with connect(front.balancer.port) as client:
        client.sendall(ASK % b"/v1/realtime")
        head, _, rest = read_until(client, b"greeting").partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 ")
        assert b"upgrade: websocket" in head.lower()
        assert b"sec-websocket-accept: a" in head.lower()
        assert rest == b"greeting"
        client.sendall(b"\x00any bytes")
        assert read_until(client, b"BYTES") == b"\x00ANY BYTES"
    sent = front.server.calls[0].fields
    assert (sent["upgrade"], sent["sec-websocket-key"]) == ("websocket", "k")
    assert front.balancer.logged(path="/v1/realtime", status=101)["backend"] == "backend"


def test_a_backend_that_declines(front: Front) -> None:
    """Its answer is passed on as it is, and the connection stays HTTP."""
    front.server.handler = _decline
    with connect(front.balancer.port) as client:
        client.sendall(ASK % b"/v1/realtime")
        assert read_until(client, b'{"no": true}').startswith(b"HTTP/1.1 426 ")
        client.sendall(b"GET /v1/models HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert read_to_end(client).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("path", [b"/v1/other", b"/v1/realtime/x", b"/V1/realtime", b"/v1/models"])
def test_an_upgrade_elsewhere(front: Front, path: bytes) -> None:
    """No other path switches, and no upgrade reaches the backend."""
    front.server.handler = _shout
    with connect(front.balancer.port) as client:
        client.sendall(ASK % path + b"GET /v1/models HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        answer = read_to_end(client)
    assert not answer.startswith(b"HTTP/1.1 101 ")
    assert b"greeting" not in answer
    assert front.server.calls == []
