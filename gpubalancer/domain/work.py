"""What one request asks for, as far as it decides where it may go, when, and what it will cost."""

from dataclasses import dataclass
from enum import IntEnum
from typing import Literal, NamedTuple

Risk = Literal["injection"]


class Priority(IntEnum):
    """Classes of the queue; a lower number goes first."""

    INTERACTIVE = 0
    STANDARD = 1
    BATCH = 2


@dataclass(frozen=True, slots=True)
class Finding:
    """Something sensitive in a request: what, how often and where. Never the text itself."""

    detector: str
    """The detector's name, or that of the operator's own pattern."""
    count: int
    message: int
    """Index of the first message (or prompt, or input) with a match."""
    tier: int
    """Rank of the tier that it raises the request to."""


@dataclass(frozen=True, slots=True)
class Selection:
    """Which backends a rule speaks of: all that is given must hold, and of a set one. Empty sets are not given."""

    names: frozenset[str] = frozenset()
    kinds: frozenset[str] = frozenset()
    engines: frozenset[str] = frozenset()
    hardware: frozenset[str] = frozenset()
    labels: frozenset[tuple[str, str]] = frozenset()


@dataclass(frozen=True, slots=True)
class Preference:
    """Backends that a rule prefers, and by how much."""

    selection: Selection
    worth_s: float
    """How many seconds more a backend that fits may cost than one that does not."""


class Prefix(NamedTuple):
    """A prompt's text by its beginnings: equal names are equal beginnings, of one model and one tenant."""

    names: tuple[int, ...]
    """64-bit hashes, the shortest beginning first."""
    ends_bytes: tuple[int, ...]
    """Where in the text each of them ends."""
    size_bytes: int
    """Of the whole text, above 0."""


@dataclass(slots=True)
class Work:
    """One request, classified. Made once, before anything is decided."""

    api: str
    model: str | None
    """The public name, after aliases; None where the request names none and any backend of the API will do."""
    tier: int
    """Rank of the tier, 0 for the lowest: backends of a lower clearance never see the request."""
    streamed: bool
    deadline_s: float
    """Instant by which an answer must have begun; infinity where the client set none."""
    claim: str | None = None
    """The path, where only a backend that claims it may serve the request."""
    model_asked: str | None = None
    """The model's name as the client wrote it."""
    sent_name: str | None = None
    """The model's name where it can't be changed on the way (uploads, paths): only backends that know it by this name
    can serve the request."""
    upgrade: bool = False
    """The client asks for another protocol on a path that allows it."""
    kinds: frozenset[str] | None = None
    """Kinds of backend that the tenant may use; None for all."""
    labels: frozenset[tuple[str, str]] = frozenset()
    """Labels that a backend must carry to serve the tenant."""
    tenant: str = "-"
    priority: Priority = Priority.STANDARD
    prompt_tokens: int = 0
    """What the engine will have to read, all prompts of a batch together; an estimate where it can't be counted."""
    counted: bool = False
    """`prompt_tokens` was counted by the model's own tokenizer."""
    output_tokens: int = 0
    """What it will probably write (median), all answers of a batch together."""
    output_tokens_high: int = 0
    """What it will hardly exceed (95th percentile, or the client's own limit): what is reserved."""
    batch: int = 1
    """Answers or inputs in one request: `n`, `best_of`, a list of prompts."""
    tier_source: str = "tenant"
    """What decided the tier: `tenant`, `header`, `unread`, `rule:NAME` or `detector:NAME`."""
    risk: Risk | None = None
    findings: tuple[Finding, ...] = ()
    affinity: int = 0
    """64-bit hash of what the client's requests of one session share; 0 for nothing."""
    prefix: Prefix | None = None
    """The prompt's text by its beginnings; None where an engine has no use for having read one before."""
    required: tuple[Selection, ...] = ()
    """Rules' `require`: every one must fit the backend."""
    denied_kinds: frozenset[str] = frozenset()
    """Rules' `deny_kinds`: not served there, nor where the kind is unknown."""
    preferred: tuple[Preference, ...] = ()
    """Rules' `prefer`: backends that fit are taken where they cost little more."""
    loaded: tuple[Preference, ...] = ()
    """Backends that have the model's adapter loaded, as far as is known: the others would have to load it first."""
    adapter: int = 0
    """Hash by which it is remembered who has the adapter loaded; 0 where the model is none."""
    rules: tuple[str, ...] = ()
    """Names of the rules that matched, for explanations."""
