"""A stream of events on its way: what it reports of tokens, what is counted of it, and what its client must not see.

Most of a stream never comes here (`wire/relay.py`): a piece that is one event with a token is counted and goes on. What
comes here is put together to whole events wherever the network has cut it.

* **Reports.** Of the events that come here, each with a usage object is a report; the first and the last are kept,
  because Anthropic's API tells the prompt in its first event and the answer in its last but one. Engines that report in
  events with text are read from the last few events of all.
* **Hiding.** An event with no choices and a usage object is the one that we asked for. A client that did not ask never
  sees a byte of it. For that, an event that is not complete yet is held back, up to `HELD_BYTES`; no usage event is
  that long, so what is longer goes on at once. `"usage": null` hides nothing.
* **Counting.** One token for each event that carries text, reasoning or a piece of a tool call. Such events are told by
  a key of their API (`mark`); those with the key and nothing in it (the role at the beginning, the finish reason at the
  end) are taken off, as far as they are among the first and last pieces. Engines that put several tokens into one event
  are counted short.
"""

import re
from collections import deque
from collections.abc import Mapping
from types import MappingProxyType

import orjson

from gpubalancer.proxy.endings import WATCHED_APIS, fault_of
from gpubalancer.wire.heads import ResponseHead
from gpubalancer.wire.relay import TAIL_PIECES

HELD_BYTES = 16 * 1024
"""A usage event has some 400 bytes; gateways that add their own fields reach 2 KiB."""
_BEGINNING_BYTES, _END_BYTES = 512, 8 * 1024
"""What is kept of a longer event: its type stands first, its usage last."""

_CONTENT = re.compile(
    rb'"(?:content|text|reasoning_content|reasoning|refusal|thinking|partial_json|response|delta|name|arguments)"'
    rb'\s*:\s*"(?!")'
)
_REPORT = re.compile(rb'"usage"\s*:\s*\{|"(?:prompt_)?eval_count"\s*:')
_NO_CHOICES = re.compile(rb'"choices"\s*:\s*\[\s*\]')
_SSE_EVENT = re.compile(rb".+?(?:\n\r?\n|\Z)", re.DOTALL)
_LINE = re.compile(rb".+?(?:\n|\Z)", re.DOTALL)

_MARKS: Mapping[str, bytes] = MappingProxyType(
    {
        "chat": b'"delta":',
        "completions": b'"text":',
        "messages": b'"content_block_delta"',
        "responses": b'.delta"',
        "ollama": b'"done"',
    }
)
"""What stands in the events of an API that carry a token, and never in one of OpenAI's that has no choices."""
_MOST_PLAIN_NEWLINES = 3
"""A piece with no more newlines and a blank line at its end can't be two events."""


class StreamWatch:
    """One stream of events; the `Watch` of its relay."""

    __slots__ = (
        "_api", "_event", "_head", "_plain_newlines", "_rest", "_sent_bytes",
        "boundary", "hides", "mark", "marked", "newlines", "reports", "tail",
    )  # fmt: skip

    def __init__(self, api: str, *, lines: bool = False, hides: bool = False) -> None:
        """A stream of one of `WATCHED_APIS`.

        Arguments:
            api: of the request.
            lines: an event is a line of JSON, not a server-sent event.
            hides: the client did not ask for usage.
        """
        self.mark = _MARKS[api]
        self.boundary = b"\n" if lines else b"\n\n"
        self.hides = hides
        self.marked = 0
        self.newlines = -1
        self.tail: deque[bytes] = deque(maxlen=TAIL_PIECES)
        self.reports: list[bytes] = []
        """The first and the last event with a usage object in it."""
        self._api = api
        self._event = _LINE if lines else _SSE_EVENT
        self._head = b""
        self._plain_newlines = -1
        self._rest = b""
        self._sent_bytes = 0

    def __repr__(self) -> str:
        state = f"{len(self._rest)} bytes of an event, {self._sent_bytes} sent" if self._rest else "between events"
        return f"<StreamWatch {self._api}, {self.marked} marked, {len(self.reports)} reports, {state}>"

    @property
    def in_event(self) -> bool:
        """True if the client has been sent a part of an event and not its end."""
        return self._sent_bytes > 0

    def look(self, piece: bytes) -> bytes:
        """Take a piece; returns what may go on now."""
        data = self._rest + piece
        cut = self._last_boundary(data)
        rest, sent_bytes, passed = data[cut:], self._sent_bytes, b""
        if cut:
            passed, sent_bytes = self._take(data[:cut], sent_bytes)[sent_bytes:], 0
        if rest and (not self.hides or sent_bytes or len(rest) > HELD_BYTES):
            passed += rest[sent_bytes:]
            if len(rest) > HELD_BYTES:
                rest = rest[:_BEGINNING_BYTES] + b" " + rest[-_END_BYTES:]
            sent_bytes = len(rest)
        self._rest, self._sent_bytes = rest, sent_bytes
        self.newlines = -1 if rest else self._plain_newlines
        return piece if passed == piece else passed

    def _last_boundary(self, data: bytes) -> int:
        """Where the last event that is complete ends; 0 if none does."""
        if self._event is _LINE:
            return data.rfind(b"\n") + 1
        return max((data.rfind(end) + len(end) for end in (b"\n\n", b"\n\r\n") if end in data), default=0)

    def _take(self, whole: bytes, sent_bytes: int) -> bytes:
        """Take whole events; returns those that the client may see."""
        self._head = self._head or whole
        self.tail.append(whole)
        events = self._event.findall(whole)
        marked = [event for event in events if self.mark in event]
        if marked:
            self.marked += len(marked)
            self._learn(marked[-1])
        # Engines that were asked for usage may write `"usage":null` into every event.
        if whole.count(b'"usage"') == whole.count(b'"usage":null') and b'_count"' not in whole:
            return whole
        self.reports += [event for event in events if _REPORT.search(event)]
        del self.reports[1:-1]
        if not self.hides:
            return whole
        seen = sent_bytes > 0
        return b"".join(
            event for index, event in enumerate(events) if (seen and not index) or not _is_usage_only(event)
        )

    def _learn(self, event: bytes) -> None:
        """How this engine writes an event."""
        newlines = event.count(b"\n")
        self._plain_newlines = newlines if newlines <= _MOST_PLAIN_NEWLINES else -1
        if event.endswith(b"\r\n\r\n"):
            self.boundary = b"\r\n\r\n"

    def close(self) -> bytes:
        """No more will come: what is left is an event without its blank line."""
        rest, sent_bytes = self._rest, self._sent_bytes
        self._rest, self._sent_bytes = b"", 0
        return self._take(rest, sent_bytes)[sent_bytes:] if rest else b""

    def complete(self) -> bool:
        """True if the answer has ended as it should."""
        return not self.fault()

    def fault(self) -> str:
        """What is wrong with how the answer ended; empty if nothing is."""
        data = b"".join(self.tail)
        # From the beginning of an event: what says how it ended may stand there, and its end be far away.
        return fault_of(self._api, data[data.rfind(self.boundary, 0, max(0, len(data) - HELD_BYTES)) + 1 :])

    def counted_tokens(self) -> int:
        """The events that carried something: what is charged where the engine reports nothing."""
        empty = sum(map(self._empty_events, self.last_events()))
        return max(0, self.marked - empty)

    def carries(self, piece: bytes) -> bool:
        """True if a piece has an event that carries something."""
        return piece.count(self.mark) > self._empty_events(piece)

    def last_events(self) -> list[bytes]:
        """The first piece and the last ones, whole events each."""
        return list({id(piece): piece for piece in (self._head, *self.tail)}.values())

    def _empty_events(self, piece: bytes) -> int:
        return sum(self.mark in event and not _CONTENT.search(event) for event in self._event.findall(piece))


def _is_usage_only(event: bytes) -> bool:
    """True for the event that `stream_options.include_usage` adds to a stream."""
    if b'"usage"' not in event or not _NO_CHOICES.search(event):
        return False
    lines = [line[5:] for line in event.splitlines() if line.startswith(b"data:")]
    try:
        fields = orjson.loads(b"\n".join(lines))
    except orjson.JSONDecodeError:
        return False
    return isinstance(fields, dict) and fields.get("choices") == [] and isinstance(fields.get("usage"), dict)


def watch_stream(api: str, head: ResponseHead, *, hides: bool) -> StreamWatch | None:
    """The watch over an answer; None if it is no stream of events that we know, or is compressed.

    Arguments:
        api: of the request.
        head: of the answer.
        hides: the client did not ask for usage.
    """
    content_type = head.field(b"content-type") or b""
    lines = content_type.startswith(b"application/x-ndjson")
    if api not in WATCHED_APIS or head.status != 200 or not (lines or content_type.startswith(b"text/event-stream")):
        return None
    if (head.field(b"content-encoding") or b"identity") != b"identity":
        return None
    return StreamWatch(api, lines=lines, hides=hides)
