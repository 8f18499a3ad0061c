"""What a large body comes to: all that is asked of it, without its text.

`take_gist` runs in the reader process (`proxy/reading.py`), where it may take its time: it parses, counts, scans, and
finds the places at which the body may have to be changed. What goes back to the worker is small whatever the body was,
and crosses between the two as plain JSON values.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from gpubalancer.brain.content import Content
from gpubalancer.brain.document import Document, Places, Understood, places_of, read_document
from gpubalancer.brain.edits import Edit
from gpubalancer.brain.experience import count
from gpubalancer.brain.insight import texts_of
from gpubalancer.brain.learned import Extent
from gpubalancer.brain.prefix import Beginnings, beginnings_of, salt_of
from gpubalancer.brain.routes import Route
from gpubalancer.brain.sensitivity.scan import Scan, Scanner
from gpubalancer.brain.tokens.book import TokenBook
from gpubalancer.domain.errors import RequestError
from gpubalancer.domain.work import Finding

MOST_GROUPS = 2_000_000
MOST_COMMAS = 8_000_000
"""A body with more opening brackets, in texts or not, or more commas is refused unread: 32 MB of empty lists would take
a gigabyte. As many tokens' ids have 5 million commas, and source code has a million brackets."""


@dataclass(frozen=True, slots=True)
class Lore:
    """What of a policy a body is understood by."""

    book: TokenBook
    scanner: Scanner
    aliases: Mapping[str, str]
    """Public names of models by their other names."""


class Owner(NamedTuple):
    """Whose prefixes a prompt's beginnings are among."""

    table_salt: int
    tenant: str | None
    """None for those of all."""


def take_gist(content: bytes, route: Route, lore: Lore, owner: Owner | None = None) -> Document:
    """Read a body and understand it; the document that comes of it has no texts and no bytes.

    Takes seconds and a gigabyte for the worst of 32 MB.

    Arguments:
        content: the body.
        route: what it was sent to.
        lore: of the policy.
        owner: for naming the prompt's beginnings; None to do without.

    Raises:
        RequestError: `invalid_json`, `missing_model`, `model_not_found`, `body_too_costly`.
    """
    if content.count(b"{") + content.count(b"[") > MOST_GROUPS or content.count(b",") > MOST_COMMAS:
        raise RequestError("body_too_costly", "The body has more values than one request may have.")
    document = read_document(content, route)
    model = lore.aliases.get(document.asked, document.asked)
    plan = lore.book.plan(document.said, model)
    counted = count(plan)
    understood = Understood(
        plan.known_tokens if isinstance(counted, Extent) else plan.finish(counted),
        counted if isinstance(counted, Extent) else None,
        lore.scanner.scan(texts_of(document.said)),
        beginnings_of(document.said, salt_of(owner.table_salt, owner.tenant, model)) if owner is not None else None,
    )
    said = document.said._replace(messages=(), tools=(), extras=())
    return document._replace(pieces=(), said=said, understood=understood, places=places_of(content))


_SAID = tuple(name for name in Content._fields if name not in ("messages", "tools", "extras"))


def to_row(gist: Document) -> dict[str, Any]:
    """What `take_gist` gave, as JSON values."""
    understood, places = gist.understood, gist.places
    if understood is None or places is None:
        raise ValueError("a document that was not understood has no gist")
    scan, usage = understood.scan, places.usage
    return {
        "asked": gist.asked,
        "streamed": gist.streamed,
        "asks_usage": gist.asks_usage,
        "said": {name: getattr(gist.said, name) for name in _SAID},
        "known_tokens": understood.known_tokens,
        "extent": list(understood.extent) if understood.extent is not None else None,
        "findings": [[each.detector, each.count, each.message, each.tier] for each in scan.findings],
        "risk": scan.risk,
        "beginnings": list(understood.beginnings) if understood.beginnings is not None else None,
        "model": list(places.model),
        "usage": [usage.start, usage.end, usage.text.decode()],
    }


def from_row(row: Mapping[str, Any], pieces: Sequence[bytes]) -> Document:
    """The document of a body, by what `to_row` gave of it."""
    extent, usage = row["extent"], row["usage"]
    scan = Scan(tuple(Finding(*each) for each in row["findings"]), row["risk"])
    names, ends_bytes, *sizes = row["beginnings"] or ((), ())
    understood = Understood(
        row["known_tokens"],
        Extent(*extent) if extent is not None else None,
        scan,
        Beginnings(tuple(names), tuple(ends_bytes), *sizes) if sizes else None,
    )
    places = Places((row["model"][0], row["model"][1]), Edit(usage[0], usage[1], usage[2].encode()))
    said = Content(**row["said"])
    return Document(tuple(pieces), row["asked"], row["streamed"], said, row["asks_usage"], understood, places)
