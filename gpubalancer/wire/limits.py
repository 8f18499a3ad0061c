"""How much of anything one client may send, and how long it may take.

Each limit says what it really bounds. The comparison values are the defaults of other servers.
"""

from dataclasses import dataclass

KIB = 1024
MIB = 1024 * KIB


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on one client connection; the fields are the settings `listen.limits.*`."""

    head_bytes: int = 32 * KIB
    """Target, field names and values of one request (nginx: 32 KiB in four buffers; HAProxy: 16 KiB)."""
    header_count: int = 128
    """Fields of one request (HAProxy: 101; aiohttp: 128)."""
    target_bytes: int = 8 * KIB
    """The request target; RFC 9112 section 3 recommends at least 8,000 octets."""
    body_bytes: int = 32 * MIB
    """A body that is read before it is routed, as decoded from its framing."""
    upload_bytes: int = 1024 * MIB
    """A body that is streamed through."""
    connections: int = 10_000
    """Open client connections of all workers together."""
    pipelined: int = 32
    """Requests that may wait on one connection behind the one being served."""
    head_timeout_s: float = 10.0
    """From the first byte of a request (or the connection's start) to its full head."""
    body_timeout_s: float = 60.0
    """Between two pieces of a request's body."""
    idle_timeout_s: float = 300.0
    """Between two requests on one connection."""
    write_timeout_s: float = 30.0
    """How long a client may take nothing of an answer that waits for it."""
