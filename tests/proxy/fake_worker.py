"""A worker process for tests of the supervisor: it says what it is told, and serves its own process id.

It is started in the place of the Python interpreter, with the supervisor's own command line, and needs nothing but the
standard library. Its folder (the environment's `FAKE_WORKER_FOLDER`) rules it and keeps what it leaves behind:
`broken-*` is a start that fails, each once; `mute` keeps it from saying that it serves; `deaf` from ending when told;
`drained-PID` is written by one that was told to drain. `curious` makes it ask for a tenant's usage; what it is told
then stands in `answered`.
"""

import contextlib
import json
import os
import select
import socket
import struct
import sys
from pathlib import Path
from typing import Any

FOLDER = "FAKE_WORKER_FOLDER"


def main(arguments: dict[str, str], folder: Path) -> None:
    """Serve until told to drain, or until the supervisor has gone."""
    for broken in sorted(folder.glob("broken-*")):
        with contextlib.suppress(FileNotFoundError):
            broken.unlink()
            sys.exit(1)
    channel = socket.socket(fileno=int(arguments["--channel-fd"]))
    listener = socket.socket(fileno=int(arguments["--listen-fd"]))
    while True:
        ready, _, _ = select.select([channel, listener], [], [])
        if listener in ready:
            serve(listener)
        if channel in ready:
            message = receive(channel)
            if message is None:
                return
            if message["kind"] == "drain":
                (folder / f"drained-{os.getpid()}").touch()
                if not (folder / "deaf").exists():
                    return
            elif message["kind"] == "usage":
                (folder / "answered").write_text(json.dumps(message))
            elif not (folder / "mute").exists():
                report(channel, message, arguments)


def report(channel: socket.socket, told: dict[str, Any], arguments: dict[str, str]) -> None:
    """Say that a policy is served, and in the place of counts what was told."""
    tally = {"pid": os.getpid(), "told": told, "arguments": arguments}
    counts = {
        "kind": "counts",
        "tally": tally,
        "decisions": [{"time": 1.0}],
        "samples": [],
        "reservations": 0,
        "connections": int(arguments["--index"]) + 1,
        "lines_dropped": 10,
        "records_lost": 2,
    }
    send(channel, {"kind": "unreachable", "backend": "a"})
    if (Path(os.environ[FOLDER]) / "curious").exists():
        send(channel, {"kind": "usage", "number": 7, "tenant": "acme", "by": "model", "since": None})
    for message in (counts, {"kind": "adopted", "number": told["number"]}):
        send(channel, message)


def send(channel: socket.socket, message: dict[str, Any]) -> None:
    """Send one message."""
    content = json.dumps(message).encode()
    channel.sendall(struct.pack(">I", len(content)) + content)


def receive(channel: socket.socket) -> dict[str, Any] | None:
    """The next message; None if the supervisor has gone."""
    length = channel.recv(4, socket.MSG_WAITALL)
    if len(length) < 4:
        return None
    message: dict[str, Any] = json.loads(channel.recv(struct.unpack(">I", length)[0], socket.MSG_WAITALL))
    return message


def serve(listener: socket.socket) -> None:
    """Send our process id to whoever connects."""
    with contextlib.suppress(BlockingIOError):
        client, _ = listener.accept()
        with client:
            client.sendall(str(os.getpid()).encode())


if __name__ == "__main__":
    words = sys.argv[sys.argv.index("worker") + 1 :]
    main(dict(zip(words[::2], words[1::2], strict=True)), Path(os.environ[FOLDER]))
