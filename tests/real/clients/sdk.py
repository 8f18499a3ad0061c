"""Drives an official Python SDK: `python -m tests.real.clients.sdk openai|anthropic`, obeying lines.py.

The SDKs have one shape (resources, `create`, `stream`, typed errors), so one program drives both in every version: the
argument names the module, and the virtual environment that runs this has it. Address and key come from the SDK's own
environment variables, as they do for users.
"""

import asyncio
import functools
import socket
import sys
from collections.abc import Iterator
from importlib import import_module
from typing import Any

from tests.real.clients.lines import obey

NAMES = {"openai": "OpenAI", "anthropic": "Anthropic"}
COMMANDS = ("version", "call", "stream", "gather", "together", "post", "begin", "count", "leave")
SMALL_BUFFER_BYTES = 65_536


class Driver:
    """The commands, on one client of the SDK that keeps its connections between them."""

    def __init__(self, name: str) -> None:
        self._sdk = import_module(name)
        self._async_client = getattr(self._sdk, f"Async{NAMES[name]}")
        self._client = getattr(self._sdk, NAMES[name])()
        self._open: Any = None
        self._events: Iterator[Any] = iter(())

    def version(self) -> str:
        """The SDK's."""
        return str(self._sdk.__version__)

    def call(self, method: str, options: dict[str, Any] | None = None, **body: Any) -> dict[str, Any]:
        """Call a method (`chat.completions.create`) once; gives the header fields and the answer."""
        *resource, verb = method.split(".")
        client = self._client.with_options(**(options or {}))
        raw = getattr(_resource(client, resource).with_raw_response, verb)(**body)
        return {"headers": dict(raw.headers), "answer": _plain(raw.parse())}

    def stream(self, method: str, **body: Any) -> list[Any]:
        """All events of a streamed answer."""
        with _resource(self._client, method.split("."))(stream=True, **body) as events:
            return [_plain(event) for event in events]

    def gather(self, resource: str, final: str, **body: Any) -> dict[str, Any]:
        """Stream with the SDK's own accumulator; gives the number of events and what `final` makes of them."""
        with _resource(self._client, resource.split(".")).stream(**body) as events:
            count = sum(1 for _ in events)
            return {"events": count, "final": _plain(getattr(events, final)())}

    def together(self, method: str, times: int, **body: Any) -> list[list[Any]]:
        """The events of several streams that the asynchronous client reads at the same time."""

        async def one(client: Any) -> list[Any]:
            async with await _resource(client, method.split("."))(stream=True, **body) as events:
                return [_plain(event) async for event in events]

        async def every() -> list[list[Any]]:
            async with self._async_client() as client:
                return await asyncio.gather(*(one(client) for _ in range(times)))

        return asyncio.run(every())

    def post(self, path: str, content: str) -> Any:
        """Send a body as it is."""
        headers = {"Content-Type": "application/json"}
        return self._client.post(path, cast_to=object, content=content.encode(), options={"headers": headers})

    def begin(self, method: str, events: int, **body: Any) -> list[Any]:
        """Read the first events of a stream on a connection with a small buffer, and keep it open."""
        client = self._client.with_options(http_client=self._slow_http(), max_retries=0)
        self._open = _resource(client, method.split("."))(stream=True, **body)
        self._events = iter(self._open)
        return [_plain(next(self._events)) for _ in range(events)]

    def count(self) -> int:
        """Read the stream that has begun to its end; gives the number of its other events."""
        return sum(1 for _ in self._events)

    def leave(self) -> None:
        """Close the stream that has begun."""
        self._open.close()

    def _slow_http(self) -> Any:
        """The SDK's HTTP client with so small a buffer that unread bytes stay with the sender."""
        made = self._sdk.DefaultHttpxClient
        http = import_module(made.__mro__[1].__module__.split(".")[0])
        option = (socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BUFFER_BYTES)
        return made(transport=http.HTTPTransport(socket_options=[option]))


def _resource(client: Any, path: list[str]) -> Any:
    return functools.reduce(getattr, path, client)


def _plain(value: Any) -> Any:
    """A model of the SDK as JSON."""
    return value.model_dump(mode="json", warnings=False) if hasattr(value, "model_dump") else value


def main() -> None:
    """Obey until standard input ends."""
    name = sys.argv[1]
    driver = Driver(name)
    obey(
        {command: getattr(driver, command) for command in COMMANDS}, getattr(import_module(name), f"{NAMES[name]}Error")
    )


if __name__ == "__main__":
    main()
