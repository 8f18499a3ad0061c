"""Who a request's key belongs to.

The policy holds SHA-256 digests only, and a key is looked up by its digest: the time of a look-up tells nothing about
keys, because nobody can choose the digest of a guess. Keys are long and random, so a fast hash is right for them.
"""

import hashlib
from collections.abc import Mapping
from typing import NamedTuple

from gpubalancer.domain.errors import RequestError
from gpubalancer.domain.outcome import NOBODY
from gpubalancer.policy.schema import Policy
from gpubalancer.policy.tenants import Tenant

_BEARER = b"bearer "
_KEY_FIELDS = (b"x-api-key", b"api-key")


def presented_key(fields: Mapping[bytes, bytes]) -> bytes | None:
    """The key that a request presents, from whichever field; None if it presents none.

    Raises:
        RequestError: `invalid_api_key`, if the scheme is unknown or two fields present different keys.
    """
    presented: bytes | None = None
    authorization = fields.get(b"authorization")
    if authorization:
        if authorization[:7].lower() != _BEARER:
            raise RequestError("invalid_api_key", "Authorization must be of the form: Bearer KEY.")
        presented = authorization[7:].strip()
    for name in _KEY_FIELDS:
        key = fields.get(name)
        if key:
            if presented is not None and key != presented:
                raise RequestError("invalid_api_key", "The request presents two different keys.")
            presented = key
    return presented


class Payer(NamedTuple):
    """Who pays, and with which key.

    Attributes:
        tenant: the payer.
        key: the SHA-256 of the key; None for requests without one.
        key_id: what is told of the key: the beginning of its SHA-256, 32 bits of which nobody can guess the key from.
    """

    tenant: Tenant
    key: bytes | None
    key_id: str = NOBODY


class KeyRing:
    """All keys of one policy."""

    def __init__(self, policy: Policy) -> None:
        self._tenants = {digest: tenant for tenant in policy.tenants for digest in tenant.key_digests}
        self._anonymous = next((tenant for tenant in policy.tenants if tenant.name == policy.anonymous), None)

    def payer_of(self, key: bytes | None) -> Payer:
        """The tenant that a key belongs to, or who pays for requests without one.

        Raises:
            RequestError: `missing_api_key`, `invalid_api_key`.
        """
        if key is not None:
            digest = hashlib.sha256(key).digest()
            tenant = self._tenants.get(digest)
            if tenant is not None:
                return Payer(tenant, digest, digest[:4].hex())
            if self._tenants or self._anonymous is None:
                raise RequestError("invalid_api_key", "The API key is not known here.")
        if self._anonymous is None:
            raise RequestError("missing_api_key", "An API key is required: Authorization: Bearer KEY.")
        return Payer(self._anonymous, None)
