"""Which budgets a request counts in, what it is expected to take, and what a refusal becomes.

A request counts in the budgets of its key, of its tenant, and of all that stand above the tenant, as far as they are
for its model. The list is made once for each payer and model of a policy.
"""

from collections.abc import Iterator
from dataclasses import replace

from gpubalancer.domain.budget import MILLION, SCALE, Claims, Refusal, Spending, Terms, Window
from gpubalancer.domain.errors import RequestError
from gpubalancer.domain.outcome import NOBODY
from gpubalancer.domain.work import Work
from gpubalancer.policy.backends import TokenPrice
from gpubalancer.policy.budget_checks import lineage
from gpubalancer.policy.budgets import Budget
from gpubalancer.policy.schema import Policy
from gpubalancer.policy.tenants import Tenant, allows

SOON_S = 60.0
"""What heals within this is a rate limit; what takes longer is a spent quota, and clients are told not to try again."""
CLAIMS_KEPT = 131_072
"""Claims that are remembered; beyond, all are forgotten and made again as they are asked for."""

_UNITS = {
    "tokens": "tokens",
    "prompt_tokens": "prompt tokens",
    "completion_tokens": "completion tokens",
    "requests": "requests",
    "usd": "USD",
    "joules": "joules",
    "concurrent": "concurrent requests",
}


class BudgetPlan:
    """The budgets of one policy. A tenant without any costs one look into a set."""

    def __init__(self, policy: Policy) -> None:
        self._tenants = {tenant.name: tenant for tenant in policy.tenants}
        self._paying = {tenant.name for tenant in policy.tenants if self._any_budget(tenant)}
        self._keys = {key.digest: key for tenant in policy.tenants for key in tenant.keys if key.budgets}
        self._digests = {digest[:4].hex(): digest for digest in self._keys}
        self._terms: dict[tuple[str, str], tuple[tuple[Budget, Terms], ...]] = {}
        self._claims: dict[tuple[str, bytes | None, str | None], Claims | None] = {}
        self._beyond: dict[tuple[str, bytes | None, str | None], Claims | None] = {}

    def claims(self, tenant: str, model: str | None, key: bytes | None = None) -> Claims | None:
        """All budgets that a request counts in, None if there is none.

        Arguments:
            tenant: who pays.
            model: its public name; None counts in the budgets for any model only.
            key: the SHA-256 of the key that it came with.
        """
        if tenant not in self._paying:
            return None
        asked = tenant, key if key in self._keys else None, model
        if asked not in self._claims:
            if len(self._claims) >= CLAIMS_KEPT:
                self._claims.clear()
            self._claims[asked] = self._find(*asked)
        return self._claims[asked]

    def claims_of_record(self, tenant: str, model: str, key_id: str) -> Claims | None:
        """The claims of a request as it stands in the ledger, which has `-` for no model and of keys what is told."""
        return self.claims(tenant, model if model != NOBODY else None, self._digests.get(key_id))

    def beyond(self, tenant: str, model: str | None, key: bytes | None = None) -> Claims | None:
        """The claims of a request that was downgraded because a budget was spent.

        Budgets that downgrade don't refuse it: windows count it and owe nothing for it, and the others, which would
        never refill under such requests, leave it out.
        """
        asked = tenant, key if key in self._keys else None, model
        if asked not in self._beyond:
            if len(self._beyond) >= CLAIMS_KEPT:
                self._beyond.clear()
            whole = self.claims(tenant, model, key)
            every = tuple(map(_lenient, whole.terms)) if whole is not None else ()
            kept = tuple(terms for terms in every if terms is not None)
            self._beyond[asked] = claims_of(kept) if kept else None
        return self._beyond[asked]

    def tenant(self, name: str) -> Tenant:
        """Who pays, by name. Errors: KeyError."""
        return self._tenants[name]

    def terms_of(self, identity: bytes) -> Terms | None:
        """The terms of a budget by its id, for what a dead worker left; None if the policy no longer has it."""
        return next((terms for terms in self.every() if terms.id == identity), None)

    def every(self) -> Iterator[Terms]:
        """All budgets of the policy."""
        for tenant in self._tenants.values():
            for key in ("", *(key.hash for key in tenant.keys if key.budgets)):
                yield from (terms for _, terms in self._terms_of(tenant, key))

    def _any_budget(self, tenant: Tenant) -> bool:
        above = lineage(tenant, self._tenants)
        return any(payer.budgets for payer in above) or any(key.budgets for key in tenant.keys)

    def _find(self, name: str, digest: bytes | None, model: str | None) -> Claims | None:
        tenant = self._tenants[name]
        sources = [(tenant, self._keys[digest].hash)] if digest is not None else []
        sources += [(payer, "") for payer in lineage(tenant, self._tenants)]
        found = [
            (budget, terms)
            for payer, key in sources
            for budget, terms in self._terms_of(payer, key)
            if _is_for(budget, model)
        ]
        if not found:
            return None
        return claims_of(tuple(terms for _, terms in found))

    def _terms_of(self, tenant: Tenant, key: str) -> tuple[tuple[Budget, Terms], ...]:
        """The budgets of a tenant, or of one of its keys: one object for each, however many claims it is in."""
        if (tenant.name, key) not in self._terms:
            budgets = tenant.budgets if not key else next(each.budgets for each in tenant.keys if each.hash == key)
            made = tuple((budget, budget.terms(tenant.name, key, tenant.time_zone)) for budget in budgets)
            self._terms[tenant.name, key] = made
        return self._terms[tenant.name, key]


def _lenient(terms: Terms) -> Terms | None:
    if terms.when_spent != "downgrade":
        return terms
    return replace(terms, shadow=True) if isinstance(terms, Window) else None


def claims_of(every: tuple[Terms, ...]) -> Claims:
    """The claims on these budgets, with what follows from them."""
    stops = any(terms.stops and not terms.shadow for terms in every)
    return Claims(every, stops, priced=any(terms.unit in ("usd", "joules") for terms in every))


def _is_for(budget: Budget, model: str | None) -> bool:
    return allows(budget.models, model) if model is not None else "*" in budget.models


def expected(work: Work, usd: float = 0.0, joules: float = 0.0) -> Spending:
    """What a request is expected to take at most, with nothing cached: what is reserved."""
    amounts = round(usd * SCALE["usd"]), round(joules * SCALE["joules"])
    return Spending(work.prompt_tokens, 0, work.output_tokens_high, 1, *amounts)


def token_nano_usd(price: TokenPrice, prompt_tokens: int, cached_tokens: int, completion_tokens: int) -> int:
    """The price of tokens in nano-dollars, rounded up. A million tokens at one dollar are 1,000 nano-dollars each."""
    if not (price.prompt or price.completion or price.cached):
        return 0
    cached = price.prompt if price.cached is None else price.cached
    cached_tokens = min(cached_tokens, prompt_tokens)
    parts = (
        (price.prompt, prompt_tokens - cached_tokens),
        (cached, cached_tokens),
        (price.completion, completion_tokens),
    )
    pico = sum(round(usd * MILLION) * tokens for usd, tokens in parts)
    return -(-pico // 1000)


def refused(refusal: Refusal) -> RequestError:
    """The answer to a request that does not fit: a rate limit if time heals it soon, else a spent quota."""
    terms, stands = refusal.terms, refusal.standing
    what = f"{_UNITS[terms.unit]}{f' per {terms.per}' if terms.per else ''}"
    left = f"{max(0.0, stands.remaining):g} of {stands.limit:g} {what} are left"
    if refusal.retry_after_s is None:
        return RequestError("insufficient_quota", f"The request is larger than the budget can ever be: {left}.")
    code = "rate_limit_exceeded" if refusal.retry_after_s <= SOON_S else "insufficient_quota"
    return RequestError(code, f"The budget does not cover this request: {left}.", retry_after_s=refusal.retry_after_s)
