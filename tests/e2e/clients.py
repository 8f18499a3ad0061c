"""Clients of the data port: whole answers by the standard library, and raw sockets where the bytes matter."""

import http.client
import json
import socket
import ssl
from dataclasses import dataclass
from typing import Any

CHAT = "/v1/chat/completions"


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer; field names in lower case."""

    status: int
    fields: dict[str, str]
    body: bytes

    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


def ask(
    port: int,
    path: str = CHAT,
    body: Any = None,
    fields: dict[str, str] | None = None,
    method: str = "",
    tls: ssl.SSLContext | None = None,
    host: str = "127.0.0.1",
) -> Answer:
    """Send one request on a connection of its own; a body that is not bytes goes as JSON."""
    content = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    connection = (
        http.client.HTTPSConnection(host, port, timeout=30, context=tls)
        if tls
        else http.client.HTTPConnection(host, port, timeout=30)
    )
    try:
        sent = {"Content-Type": "application/json", **(fields or {})}
        connection.request(method or ("GET" if content is None else "POST"), path, content, sent)
        answer = connection.getresponse()
        return Answer(answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read())
    finally:
        connection.close()


def chat(**more: Any) -> dict[str, Any]:
    """The body of a chat request for the model `m`."""
    return {"model": "m", "messages": [{"role": "user", "content": "hello"}], **more}


def request_bytes(path: str = CHAT, body: Any = None, fields: str = "") -> bytes:
    """A POST as raw bytes; `fields` are whole lines."""
    content = json.dumps(body if body is not None else chat()).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(content)}\r\n"
    return head.encode() + fields.encode() + b"\r\n" + content


def connect(port: int) -> socket.socket:
    """A connection on which nothing waits longer than 30 s."""
    return socket.create_connection(("127.0.0.1", port), timeout=30)


def read_until(client: socket.socket, mark: bytes) -> bytes:
    """All bytes up to the first piece that completes the mark.

    Raises:
        AssertionError: the connection ended before.
    """
    data = b""
    while mark not in data:
        piece = client.recv(65536)
        assert piece, f"the connection ended before {mark!r}: {data[-300:]!r}"
        data += piece
    return data


def read_to_end(client: socket.socket) -> bytes:
    """All bytes until the connection ends, by a close or a reset."""
    data = b""
    try:
        while piece := client.recv(65536):
            data += piece
    except ConnectionResetError:
        return data
    return data
