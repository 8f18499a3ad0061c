"""One GET with a deadline and a limit on the answer, for all that is read of backends and their machines.

What goes wrong on the way is a `FetchError` with one sentence; a status is no error here. Redirects are not followed:
a backend must not choose what we read. Answers may be compressed; the limit is on what comes out.
"""

import ssl
from collections.abc import Mapping
from dataclasses import dataclass

import aiohttp

from gpubalancer.telemetry.pages import PAGE_BYTES


class FetchError(Exception):
    """There is no answer; the message says why, in one sentence."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer, read whole."""

    status: int
    body: bytes
    headers: Mapping[str, str]


def open_session() -> aiohttp.ClientSession:
    """A session for what is read every second: connections are kept, none waits for another, no cookie is kept."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0),
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"User-Agent": "gpubalancer"},
    )


async def fetch(
    session: aiohttp.ClientSession,
    url: str,
    deadline_s: float,
    *,
    credential: str | None = None,
    trust: ssl.SSLContext | bool = True,
    server_name: str | None = None,
    limit_bytes: int = PAGE_BYTES,
) -> Answer:
    """Get a page.

    Arguments:
        session: whose connections to use.
        url: whole.
        deadline_s: for everything, from looking the name up to the last byte.
        credential: bearer secret to send.
        trust: how an https certificate is checked; True for the system's authorities.
        server_name: the name that the certificate must be for, when not the URL's host.
        limit_bytes: the longest answer.

    Errors:
        FetchError: no answer, a broken one, one too long, or none in time.
    """
    try:
        async with session.get(
            url,
            headers={"Authorization": f"Bearer {credential}"} if credential else {},
            timeout=aiohttp.ClientTimeout(total=deadline_s),
            allow_redirects=False,
            ssl=trust,
            server_hostname=server_name,
        ) as response:
            body = bytearray()
            async for chunk in response.content.iter_any():
                body += chunk
                if len(body) > limit_bytes:
                    raise FetchError(f"{url} answered more than {limit_bytes} bytes")
            return Answer(response.status, bytes(body), response.headers)
    except TimeoutError:
        raise FetchError(f"no answer from {url} within {deadline_s:g} s") from None
    except (aiohttp.ClientError, OSError, ValueError) as error:
        raise FetchError(f"no answer from {url}: {error or type(error).__name__}") from error
