"""What a policy makes of a request's text: its tokens, what is sensitive in it, and which rules it meets.

Built whole for each policy, which may take a second (tokenizers are read, expressions compiled). The steps of a request
are the functions here; whoever calls them decides what is run on the event loop and what in a thread.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from gpubalancer.brain.content import Content
from gpubalancer.brain.prefix import Beginnings, prefix_of, salt_of, with_session
from gpubalancer.brain.rules import Rules, compile_rules
from gpubalancer.brain.sensitivity.scan import Messages, Scan, Scanner
from gpubalancer.brain.tokens.book import TokenBook
from gpubalancer.domain.errors import RequestError
from gpubalancer.domain.work import Work
from gpubalancer.policy.schema import Policy
from gpubalancer.policy.tenants import Tenant
from gpubalancer.policy.tiers import Sensitivity


@dataclass(frozen=True, slots=True)
class Insight:
    """The parts of a policy that read text."""

    book: TokenBook
    scanner: Scanner
    scanner_apart: Scanner
    """The same, for a thread."""
    scanned_for: tuple[Sensitivity, Mapping[str, int]]
    """What the scanners were compiled from."""
    rules: Rules
    refuses_injection: bool
    unread_takes_max_tier: bool
    shares_prefixes: bool


def build_insight(policy: Policy, seed: int, earlier: Insight | None) -> Insight:
    """Build what a policy needs to understand requests.

    Arguments:
        policy: the settings.
        seed: a secret number of 64 bits of this process.
        earlier: of the policy before; its tokenizers, their caches, and expressions that are the same are taken over.

    Raises:
        TokenizerError: a model's tokenizer can't be loaded.
    """
    tokenizers = {name: model.tokenizer for name, model in policy.models.items() if model.tokenizer is not None}
    scanned_for = policy.sensitivity, policy.tier_ranks
    # Compiling takes a few tenths of a second, and most reloads change something else.
    same = earlier if earlier is not None and earlier.scanned_for == scanned_for else None
    scanner = same.scanner if same is not None else Scanner(*scanned_for)
    return Insight(
        book=TokenBook(tokenizers, seed, earlier.book if earlier is not None else None),
        scanner=scanner,
        scanner_apart=same.scanner_apart if same is not None else scanner.apart(),
        scanned_for=scanned_for,
        rules=compile_rules(policy),
        refuses_injection=policy.sensitivity.injection.action == "refuse",
        unread_takes_max_tier=policy.sensitivity.unread == "max_tier",
        shares_prefixes=policy.routing.prefixes.scope == "all",
    )


def texts_of(content: Content) -> Messages:
    """All that detectors look at: the messages, the tools, and strings of fields that we do not know."""
    messages = [message.texts + message.extras for message in content.messages]
    if content.tools:
        messages.append(content.tools)
    if content.extras:
        messages.append(content.extras)
    return messages


def note_prefix(work: Work, content: Content, insight: Insight, table_salt: int) -> None:
    """Name the beginnings of the prompt, for the table of this salt."""
    owner = None if insight.shares_prefixes else work.tenant
    work.prefix = prefix_of(content, salt_of(table_salt, owner, work.model), work.affinity)


def note_prefix_found(work: Work, found: Beginnings | None, insight: Insight, table_salt: int) -> None:
    """The same of a body whose text was read elsewhere."""
    owner = None if insight.shares_prefixes else work.tenant
    work.prefix = with_session(found, salt_of(table_salt, owner, work.model), work.affinity)


def note_findings(work: Work, scan: Scan, insight: Insight, tenant: Tenant, ranks: Mapping[str, int]) -> None:
    """Raise the work to the tier of the most sensitive finding, and label its risk.

    Raises:
        RequestError: `tier_not_served` if the tenant may not send that tier, `injection_refused`.
    """
    work.risk = scan.risk
    if scan.risk is not None and insight.refuses_injection:
        raise RequestError("injection_refused", "The request looks like an attempt to inject instructions.")
    if not scan.findings:
        return
    work.findings = scan.findings
    highest = max(scan.findings, key=lambda finding: finding.tier)
    _raise_to(work, highest.tier, f"detector:{highest.detector}", tenant, ranks)


def note_unread(work: Work, insight: Insight, tenant: Tenant, ranks: Mapping[str, int]) -> None:
    """What nobody reads here may be anything: give it the tenant's highest tier, unless the policy says otherwise."""
    if insight.unread_takes_max_tier:
        _raise_to(work, ranks[tenant.max_tier], "unread", tenant, ranks)


def _raise_to(work: Work, tier: int, source: str, tenant: Tenant, ranks: Mapping[str, int]) -> None:
    if tier > ranks[tenant.max_tier]:
        raise RequestError("tier_not_served", "This key may not send what was found in this request.")
    if tier > work.tier:
        work.tier, work.tier_source = tier, source
