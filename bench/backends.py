"""A stub inference server: the least a backend can cost, so that what is measured is the balancer in front of it.

One process, raw protocol callbacks, answers made before the first request. A unary chat gets a fixed answer of about
600 bytes at once. A stream gets its head and first event at once and one further event per interval; `max_tokens` in
the request says how many events it has in all. One timer drives all streams: the interval is cut into slots, a stream
belongs to the slot it was opened in, and each tick serves one slot. So streams do not all speak at the same instant.

    python -m bench.backends --port 9001 --interval 0.1
"""

import asyncio
from typing import Any, cast

import click
import httptools
import orjson
import uvloop

from bench.prompts import ANSWER_TEXT, MARKER, MODEL

SLOTS = 20  # ticks per interval
DEFAULT_EVENTS = 16
CREATED = 1_760_000_000  # any fixed time

USAGE = {"prompt_tokens": 214, "completion_tokens": 46, "total_tokens": 260}
ANSWER = orjson.dumps(
    {
        "id": "chatcmpl-5f0c6e1b7a2d4c3e9b8a7d6c5e4f3a2b",
        "object": "chat.completion",
        "created": CREATED,
        "model": MODEL,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": ANSWER_TEXT, "tool_calls": []},
                "logprobs": None,
                "finish_reason": "stop",
                "stop_reason": None,
            }
        ],
        "usage": USAGE | {"prompt_tokens_details": None},
        "prompt_logprobs": None,
    }
)
METRICS = b"""# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{model_name="bench-model"} 0
# TYPE vllm:num_requests_waiting gauge
vllm:num_requests_waiting{model_name="bench-model"} 0
# TYPE vllm:kv_cache_usage_perc gauge
vllm:kv_cache_usage_perc{model_name="bench-model"} 0
"""
SERVER = orjson.dumps({"model_path": MODEL, "served_model_name": MODEL, "dp_size": 1, "tp_size": 1, "version": "0"})
MODELS = orjson.dumps({"object": "list", "data": [{"id": MODEL, "object": "model", "owned_by": "bench"}]})

# What routers ask before they send the first request; their own pages, each tried in turn by one or another.
PAGES: dict[bytes, tuple[str, bytes]] = {
    b"/health": ("text/plain", b""),
    b"/health_generate": ("text/plain", b""),
    b"/v1/models": ("application/json", MODELS),
    b"/get_server_info": ("application/json", SERVER),
    b"/server_info": ("application/json", SERVER),
    b"/get_model_info": ("application/json", SERVER),
    b"/model_info": ("application/json", SERVER),
    b"/version": ("application/json", b'{"version":"0"}'),
    b"/metrics": ("text/plain; version=0.0.4", METRICS),
}


def _whole(status: str, content_type: str, body: bytes) -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def _event(
    delta: dict[str, str] | None, finish_reason: str | None = None, usage: dict[str, int] | None = None
) -> bytes:
    """One `data:` event in its own HTTP chunk; without a delta it is the usage event, which has no choices."""
    choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish_reason}]
    event: dict[str, Any] = {
        "id": "chatcmpl-5f0c6e1b7a2d4c3e",
        "object": "chat.completion.chunk",
        "created": CREATED,
        "model": MODEL,
        "choices": choices,
    }
    return _chunk(b"data: " + orjson.dumps(event | ({"usage": usage} if usage else {})) + b"\n\n")


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


UNARY = _whole("200 OK", "application/json", ANSWER)
PAGE_ANSWERS = {path: _whole("200 OK", *page) for path, page in PAGES.items()}
NOT_FOUND = _whole("404 Not Found", "application/json", b'{"error":{"message":"no such page"}}')
BAD_REQUEST = _whole("400 Bad Request", "application/json", b'{"error":{"message":"the body is not a chat request"}}')
STREAM_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
FIRST_EVENT = _event({"role": "assistant", "content": MARKER})
NEXT_EVENT = _event({"content": MARKER})
FINISH_EVENT = _event({}, finish_reason="stop")
USAGE_EVENT = _event(None, usage=USAGE)
STREAM_END = _chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n"


class Ticker:
    """The one timer of all streams: each tick gives every stream of one slot its next event."""

    def __init__(self, interval_s: float) -> None:
        self._tick_s = interval_s / SLOTS
        self._slots: list[dict[StubConnection, None]] = [{} for _ in range(SLOTS)]
        self._now = 0

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Tick for as long as the loop runs; a late tick is made up for, so that the rate of events holds."""
        self._loop = loop
        self._next_s = loop.time() + self._tick_s
        loop.call_at(self._next_s, self._tick)

    def add(self, stream: "StubConnection") -> dict["StubConnection", None]:
        """Put a stream into the slot that was served last, so that its next event is one interval away."""
        slot = self._slots[self._now]
        slot[stream] = None
        return slot

    def _tick(self) -> None:
        self._now = (self._now + 1) % SLOTS
        for stream in list(self._slots[self._now]):
            stream.next_event()
        self._next_s += self._tick_s
        self._loop.call_at(self._next_s, self._tick)


class StubConnection(asyncio.Protocol):
    """One connection of a client: parses requests, answers each as soon as it is whole."""

    def __init__(self, ticker: Ticker) -> None:
        self._ticker = ticker
        self._slot: dict[StubConnection, None] = {}

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's own class, not a subclass
        self._parser = httptools.HttpRequestParser(self)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._slot.pop(self, None)

    # httptools' callbacks

    def on_message_begin(self) -> None:
        self._body = b""

    def on_url(self, url: bytes) -> None:
        self._path = url.partition(b"?")[0]

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        if self._path != b"/v1/chat/completions":
            self._transport.write(PAGE_ANSWERS.get(self._path, NOT_FOUND))
            return
        try:
            request = orjson.loads(self._body)
            # sglang-router turns the one name into the other.
            events = int(request.get("max_completion_tokens") or request.get("max_tokens") or DEFAULT_EVENTS)
            stream = bool(request.get("stream"))
            usage = (request.get("stream_options") or {}).get("include_usage")
        except (ValueError, TypeError, AttributeError):
            self._transport.write(BAD_REQUEST)
            return
        if stream:
            self._start_stream(events, wants_usage=bool(usage))
        else:
            self._transport.write(UNARY)

    # streams

    def _start_stream(self, events: int, *, wants_usage: bool) -> None:
        self._left = events - 1
        self._ending = FINISH_EVENT + (USAGE_EVENT if wants_usage else b"") + STREAM_END
        self._transport.write(STREAM_HEAD + FIRST_EVENT)
        self._slot = self._ticker.add(self)

    def next_event(self) -> None:
        """Send one event, or what ends the stream."""
        if self._left > 0:
            self._left -= 1
            self._transport.write(NEXT_EVENT)
        else:
            self._slot.pop(self, None)
            self._transport.write(self._ending)


async def serve(port: int, interval_s: float) -> asyncio.Server:
    """Listen on 127.0.0.1; port 0 takes a free one."""
    loop = asyncio.get_running_loop()
    ticker = Ticker(interval_s)
    ticker.start(loop)
    return await loop.create_server(lambda: StubConnection(ticker), "127.0.0.1", port, backlog=4096)


@click.command()
@click.option("--port", type=int, required=True)
@click.option(
    "--interval", "interval_s", type=float, default=0.1, show_default=True, help="Seconds between two events."
)
def main(port: int, interval_s: float) -> None:
    """Serve until the process is ended."""

    async def run() -> None:
        server = await serve(port, interval_s)
        await server.serve_forever()

    uvloop.run(run())


if __name__ == "__main__":
    main()
