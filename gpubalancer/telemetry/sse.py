"""Server-sent events out of bytes as they arrive, whatever the cuts (HTML standard, section 9.2).

Only what is needed: `event`, `data` over one or several lines, comments and other fields passed over.
"""

EVENT_BYTES = 4 << 20
"""The longest event; a snapshot of 16 GPUs has 20 KB."""


class EventReader:
    """One stream."""

    def __init__(self) -> None:
        self._rest = bytearray()
        self._name = ""
        self._data: list[bytes] = []
        self._size_bytes = 0

    def feed(self, chunk: bytes) -> list[tuple[str, bytes]]:
        """The events that this chunk completes: each its name (`message` if it has none) and its data.

        Errors:
            ValueError: an event of more than `EVENT_BYTES`.
        """
        self._rest += chunk
        *lines, rest = self._rest.split(b"\n")
        self._rest = rest
        if len(rest) + self._size_bytes > EVENT_BYTES:
            raise ValueError(f"an event of more than {EVENT_BYTES} bytes")
        return [event for line in lines if (event := self._line(bytes(line.removesuffix(b"\r"))))]

    def _line(self, line: bytes) -> tuple[str, bytes] | None:
        if not line:
            event = (self._name or "message", b"\n".join(self._data)) if self._data else None
            self._name, self._data, self._size_bytes = "", [], 0
            return event
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"event":
            self._name = value.decode(errors="replace")
        elif field == b"data":
            self._data.append(value)
            self._size_bytes += len(value)
            if self._size_bytes > EVENT_BYTES:
                raise ValueError(f"an event of more than {EVENT_BYTES} bytes")
        return None
