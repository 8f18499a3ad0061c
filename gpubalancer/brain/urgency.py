"""How urgent a request is, and what it belongs to: its class in the queue, and the session whose cache it may meet.

Both are first the tenant's business. A client may step back behind others of its own accord, never ahead of them; and
one tenant's session keys say nothing of another's, however they are chosen.
"""

from collections.abc import Mapping

import xxhash

from gpubalancer.domain.errors import RequestError
from gpubalancer.domain.work import Priority
from gpubalancer.policy.tenants import PRIORITIES, Tenant

CLASSES: Mapping[str, Priority] = {name: Priority[name.upper()] for name in PRIORITIES}
"""The policy's words for the classes."""

_PRIORITY, _SESSION = b"x-gpubalancer-priority", b"x-session-id"
_ASKED = {name.encode(): priority for name, priority in CLASSES.items()}


def priority_of(fields: Mapping[bytes, bytes], tenant: Tenant) -> Priority:
    """The tenant's class, or the lower one that `x-gpubalancer-priority` asks for.

    Raises:
        RequestError: `invalid_header`, for a class that does not exist.
    """
    own, asked = CLASSES[tenant.priority], fields.get(_PRIORITY)
    if asked is None:
        return own
    named = _ASKED.get(asked)
    if named is None:
        raise RequestError("invalid_header", f"x-gpubalancer-priority: expected one of {', '.join(CLASSES)}.")
    return max(own, named)


def affinity_of(fields: Mapping[bytes, bytes], body_key: str | None, tenant: Tenant) -> int:
    """What the requests of one session share: a 64-bit hash that is never 0, or 0 where there is no key.

    Arguments:
        fields: of the head; `x-session-id` goes before the body's key.
        body_key: the session that the body names, if any.
        tenant: whose session it is; its name is the salt.
    """
    # A lone half of a character may come out of JSON; it needs a hash, not an error.
    key = fields.get(_SESSION) or (body_key or "").encode(errors="surrogatepass")
    if not key:
        return 0
    return xxhash.xxh3_64_intdigest(b"%b\0%b" % (tenant.name.encode(), key)) or 1
