"""Who may do what on the admin port: one decision, before any handler runs.

With a token, everything but the open routes wants it. Without one the port listens on loopback only, and the danger is
a browser on the same machine that runs a stranger's page:

* DNS rebinding: the page's own name is made to point at 127.0.0.1, so that it may read what we answer. Its requests
  carry that name, hence only loopback names are taken as `Host`.
* Cross-site requests: a page may send a form or an empty POST anywhere without reading the answer. Browsers mark those
  with `Origin` and `Sec-Fetch-Site`, and forms with their content type; what changes anything refuses all three, with
  a token too.
"""

import hashlib
import hmac
import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

Access = Literal["open", "read", "write"]


@dataclass(frozen=True, slots=True)
class Refusal:
    """An answer that is no: HTTP status, OpenAI error type and code, and one sentence."""

    status: int
    type: str
    code: str
    message: str


MISSING = Refusal(
    401, "authentication_error", "missing_token", "This needs `Authorization: Bearer` and the admin token."
)
WRONG = Refusal(401, "authentication_error", "invalid_token", "The admin token is another one.")
HOST = Refusal(403, "permission_error", "host_not_allowed", "Without a token only loopback names are taken as Host.")
ORIGIN = Refusal(403, "permission_error", "cross_origin", "Another site's page may not do this.")
CONTENT = Refusal(
    415, "invalid_request_error", "unsupported_content_type", "The body may be empty or application/json."
)


def refuse(access: Access, headers: Mapping[str, str], token: str | None) -> Refusal | None:
    """Judge a request to a route with this access by its headers; None lets it pass.

    Arguments:
        access: the route's.
        headers: a mapping that ignores the case of names.
        token: the admin token, None or empty if there is none.
    """
    if access == "open":
        return None
    if token:
        if refusal := _refuse_token(headers.get("Authorization", ""), token):
            return refusal
    elif not is_loopback_host(headers.get("Host", "")):
        return HOST
    return _refuse_cross_site(headers) if access == "write" else None


def is_loopback_host(host: str) -> bool:
    """True if a `Host` header names this machine by a loopback name or address, with any port."""
    try:
        name = urlsplit(f"//{host}").hostname or ""
        return name == "localhost" or ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _refuse_token(authorization: str, token: str) -> Refusal | None:
    scheme, _, given = authorization.partition(" ")
    if scheme.lower() != "bearer" or not given.strip():
        return MISSING
    # Digests have one length, so that the comparison's time tells nothing of the token's.
    digests = [hashlib.sha256(text.encode(errors="surrogateescape")).digest() for text in (given.strip(), token)]
    return None if hmac.compare_digest(*digests) else WRONG


def _refuse_cross_site(headers: Mapping[str, str]) -> Refusal | None:
    # A page cannot send `application/octet-stream` unasked; some HTTP libraries put it on every empty body.
    content_type = headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if content_type not in ("", "application/json", "application/octet-stream"):
        return CONTENT
    origin = headers.get("Origin")
    if origin is not None and origin.partition("://")[2].lower() != headers.get("Host", "").lower():
        return ORIGIN
    return ORIGIN if headers.get("Sec-Fetch-Site") in ("cross-site", "same-site") else None
