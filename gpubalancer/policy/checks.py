"""What must agree between the sections of a policy.

Each check is a generator of findings, and `CHECKS` is the list of them, with those of `rule_checks` at its end. Checks
never stop at the first finding.
"""

import ipaddress
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from gpubalancer.policy.budget_checks import BUDGET_CHECKS
from gpubalancer.policy.findings import Finding, Path, near, quoted
from gpubalancer.policy.rule_checks import RULE_CHECKS

if TYPE_CHECKING:
    from gpubalancer.policy.schema import Policy


def findings(policy: "Policy") -> list[Finding]:
    """Everything in which the sections of `policy` disagree."""
    return [finding for check in CHECKS for finding in check(policy)]


def _doubled(names: Iterable[tuple[Path, str]], what: str, hint: str = "") -> Iterator[Finding]:
    seen: set[str] = set()
    for path, name in names:
        if name in seen:
            yield Finding(path, f"{quoted(name)} a second time", f"each {what} once{hint}")
        seen.add(name)


def _names_once(policy: "Policy") -> Iterator[Finding]:
    hint = ": give one of them another `name`"
    sections = {
        "tiers": [tier.name for tier in policy.tiers],
        "backends": [backend.name for backend in policy.backends],
        "tenants": [tenant.name for tenant in policy.tenants],
    }
    for section, names in sections.items():
        places = (((section, index, "name"), name) for index, name in enumerate(names))
        yield from _doubled(places, f"name in {section}", hint if section == "backends" else "")
    rules = ((("routing", "rules", index, "name"), rule.name) for index, rule in enumerate(policy.routing.rules))
    yield from _doubled(rules, "rule's name")
    patterns = enumerate(policy.sensitivity.patterns)
    yield from _doubled(((("sensitivity", "patterns", i, "name"), item.name) for i, item in patterns), "pattern's name")


def _not_empty(policy: "Policy") -> Iterator[Finding]:
    if not policy.backends:
        yield Finding(("backends",), "an empty list", "at least one backend, such as {url: http://127.0.0.1:8000}")
    if not policy.tiers:
        yield Finding(("tiers",), "an empty list", "at least one tier, or no `tiers` at all for the usual four")


def _ports_differ(policy: "Policy") -> Iterator[Finding]:
    listen, admin = policy.listen, policy.admin
    everywhere = {"0.0.0.0", "::"}  # noqa: S104 (compared, not bound)
    same_host = listen.host == admin.host or {listen.host, admin.host} & everywhere
    if listen.port and listen.port == admin.port and same_host:
        yield Finding(("admin", "port"), str(admin.port), "another port than listen.port")
    if not admin.is_loopback and admin.token is None:
        expected = f"a token, because admin.host {quoted(admin.host)} can be reached from other machines"
        yield Finding(("admin", "token"), "nothing", expected)


def _tls_is_whole(policy: "Policy") -> Iterator[Finding]:
    if (tls := policy.listen.tls) is not None:
        for key, value in (("certificate", tls.certificate), ("key", tls.key)):
            if value is None:
                yield Finding(("listen", "tls", key), "nothing", "a PEM file: certificate and key come together")
    for index, backend in enumerate(policy.backends):
        if backend.tls is None:
            continue
        if not backend.is_tls:
            yield Finding(("backends", index, "tls"), "TLS settings", "none, because the URL is not https")
        if (backend.tls.certificate is None) != (backend.tls.key is None):
            missing = "key" if backend.tls.key is None else "certificate"
            yield Finding(
                ("backends", index, "tls", missing), "nothing", "a PEM file: certificate and key come together"
            )


def _tiers_exist(policy: "Policy") -> Iterator[Finding]:
    known = [tier.name for tier in policy.tiers]
    for path, name in _tier_references(policy):
        if name not in known:
            yield Finding(path, quoted(name), f"a declared tier: {near(name, known)}")
    for index, tenant in enumerate(policy.tenants):
        is_known = {tenant.tier, tenant.max_tier} <= set(known)
        if is_known and known.index(tenant.tier) > known.index(tenant.max_tier):
            expected = f"a tier not above max_tier, {quoted(tenant.max_tier)}"
            yield Finding(("tenants", index, "tier"), quoted(tenant.tier), expected)


def _tier_references(policy: "Policy") -> Iterator[tuple[Path, str]]:
    references: list[tuple[Path, str | None]] = []
    for index, backend in enumerate(policy.backends):
        references.append((("backends", index, "clearance"), backend.clearance))
    for index, tenant in enumerate(policy.tenants):
        references.append((("tenants", index, "tier"), tenant.tier))
        references.append((("tenants", index, "max_tier"), tenant.max_tier))
    for detector, tier in policy.sensitivity.detectors.items():
        references.append((("sensitivity", "detectors", detector), tier))
    for index, pattern in enumerate(policy.sensitivity.patterns):
        references.append((("sensitivity", "patterns", index, "tier"), pattern.tier))
    for index, rule in enumerate(policy.routing.rules):
        references.append((("routing", "rules", index, "set", "tier"), rule.changes.tier))
        for place, tier in enumerate(rule.when.tier or ()):
            references.append((("routing", "rules", index, "when", "tier", place), tier))
    return ((path, name) for path, name in references if name)


def _clearances_are_true(policy: "Policy") -> Iterator[Finding]:
    """A clearance is a promise about the network. Where the URL holds an address, it can be kept to already now."""
    tiers = {tier.name: tier for tier in policy.tiers}
    for index, backend in enumerate(policy.backends):
        tier = tiers.get(backend.clearance)
        try:
            address = ipaddress.ip_address(backend.host)
        except ValueError:
            continue
        if tier is not None and not tier.admits(address):
            expected = f"a tier whose networks hold {address}, or another address"
            yield Finding(("backends", index, "clearance"), quoted(tier.name), expected)


def _models_exist(policy: "Policy") -> Iterator[Finding]:
    """Names of models are checked only where every backend says what it serves: else only the servers know."""
    known = set(policy.models) | {name for backend in policy.backends for name in backend.models or {}}
    owners = {alias: name for name, model in policy.models.items() for alias in model.aliases}
    is_closed = all(backend.models is not None for backend in policy.backends)
    for path, name in _model_references(policy):
        if name in owners and name not in known:
            yield Finding(path, f"the alias {quoted(name)}", f"the model's own name, {quoted(owners[name])}")
        elif is_closed and name not in known:
            yield Finding(path, quoted(name), f"a model of `models` or of a backend: {near(name, sorted(known))}")
    seen: dict[str, str] = {}
    for model, settings in policy.models.items():
        for place, alias in enumerate(settings.aliases):
            at: Path = ("models", model, "aliases", place)
            if alias in known:
                yield Finding(at, quoted(alias), "an alias that is not itself a model's name")
            elif alias in seen:
                yield Finding(at, f"{quoted(alias)}, already an alias of {quoted(seen[alias])}", "each alias once")
            seen.setdefault(alias, model)


def _model_references(policy: "Policy") -> Iterator[tuple[Path, str]]:
    for model, settings in policy.models.items():
        if settings.downgrade_to is not None:
            yield ("models", model, "downgrade_to"), settings.downgrade_to
    for index, tenant in enumerate(policy.tenants):
        for place, name in enumerate(tenant.models):
            if "*" not in name:
                yield ("tenants", index, "models", place), name
    for index, rule in enumerate(policy.routing.rules):
        for place, name in enumerate(rule.when.model or ()):
            yield ("routing", "rules", index, "when", "model", place), name
        if rule.changes.model is not None:
            yield ("routing", "rules", index, "set", "model"), rule.changes.model


def _downgrades_end(policy: "Policy") -> Iterator[Finding]:
    downgrades = {name: model.downgrade_to for name, model in policy.models.items() if model.downgrade_to}
    for model in downgrades:
        if _returns(model, downgrades):
            expected = "a model from which no downgrade leads back"
            yield Finding(("models", model, "downgrade_to"), quoted(downgrades[model]), expected)


def _returns(start: str, downgrades: Mapping[str, str]) -> bool:
    model = downgrades.get(start)
    for _ in downgrades:
        if model is None or model == start:
            break
        model = downgrades.get(model)
    return model == start


def _tenants_exist(policy: "Policy") -> Iterator[Finding]:
    known = [tenant.name for tenant in policy.tenants]
    if policy.anonymous is not None and policy.anonymous not in known:
        yield Finding(("anonymous",), quoted(policy.anonymous), f"a declared tenant: {near(policy.anonymous, known)}")
    if policy.anonymous is None and known == ["anonymous"] and not policy.tenants[0].keys:
        reason = f"because listen.host {quoted(policy.listen.host)} can be reached from other machines"
        yield Finding(
            ("tenants",), "nothing", f"tenants with keys, or `anonymous: anonymous` to serve everybody, {reason}"
        )
    for index, rule in enumerate(policy.routing.rules):
        for place, name in enumerate(rule.when.tenant or ()):
            if name not in known:
                path = ("routing", "rules", index, "when", "tenant", place)
                yield Finding(path, quoted(name), f"a declared tenant: {near(name, known)}")


def _keys_once(policy: "Policy") -> Iterator[Finding]:
    owners: dict[str, str] = {}
    for index, tenant in enumerate(policy.tenants):
        for place, key in enumerate(key.hash for key in tenant.keys):
            if key in owners:
                found = f"the same key as tenant {quoted(owners[key])}"
                yield Finding(("tenants", index, "keys", place), found, "each key once, since it says who pays")
            owners.setdefault(key, tenant.name)


CHECKS = (
    _not_empty,
    _names_once,
    _ports_differ,
    _tls_is_whole,
    _tiers_exist,
    _clearances_are_true,
    _models_exist,
    _downgrades_end,
    _tenants_exist,
    _keys_once,
    *BUDGET_CHECKS,
    *RULE_CHECKS,
)
