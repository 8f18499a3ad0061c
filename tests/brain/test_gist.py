"""What a large body comes to, and its way between two processes."""

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpubalancer.brain.content import Content
from gpubalancer.brain.document import Document, Places, Understood, read_document
from gpubalancer.brain.edits import Edit
from gpubalancer.brain.gist import MOST_COMMAS, MOST_GROUPS, Lore, Owner, from_row, take_gist, to_row
from gpubalancer.brain.learned import Extent
from gpubalancer.brain.prefix import Beginnings, prefix_of, salt_of, with_session
from gpubalancer.brain.routes import find_route
from gpubalancer.brain.sensitivity.scan import Scan, Scanner
from gpubalancer.brain.tokens.book import TokenBook
from gpubalancer.domain.errors import RequestError
from gpubalancer.domain.work import Finding
from gpubalancer.policy.tiers import Sensitivity

CARD = "4111 1111 1111 1111"
ROUTE = find_route("/v1/chat/completions")
SENSITIVITY = Sensitivity.model_validate({"detectors": {"payment_card": "secret"}})


@pytest.fixture(scope="module")
def lore() -> Lore:
    """One model whose tokenizer is known, and a detector."""
    return Lore(TokenBook({"m": "cl100k_base"}, 7), Scanner(SENSITIVITY, {"open": 0, "secret": 1}), {"other": "m"})


def gist(lore: Lore, content: Any, **more: Any) -> Document:
    """Of a chat of one message."""
    assert ROUTE is not None
    body = {"model": "m", "messages": [{"role": "user", "content": content}], **more}
    return take_gist(orjson.dumps(body), ROUTE, lore)


def test_all_that_a_request_needs_is_in_it(lore: Lore) -> None:
    """Tokens, findings and what is asked for; and no text."""
    taken = gist(lore, f"pay with {CARD}", stream=True, max_tokens=7, user="bob")
    assert taken.understood is not None
    assert (taken.asked, taken.streamed, taken.said.max_tokens, taken.said.affinity) == ("m", True, 7, "bob")
    assert (taken.understood.known_tokens, taken.understood.extent) == (21, None)
    assert taken.understood.scan.findings == (Finding("payment_card", 1, 0, 1),)
    assert (taken.pieces, taken.said.messages) == ((), ())


def test_a_model_is_counted_by_its_own_name(lore: Lore) -> None:
    """An alias has its model's tokenizer; for a model that is not known, texts are measured."""
    alias, unknown = gist(lore, "hello world", model="other"), gist(lore, "hello world", model="x")
    assert alias.understood is not None
    assert unknown.understood is not None
    assert (alias.understood.known_tokens, alias.understood.extent) == (9, None)
    assert unknown.understood.extent is not None
    assert unknown.understood.extent.letters > 9


@pytest.mark.parametrize("content", ["word " * 2000, [{"type": "image_url", "image_url": {"url": "http://a"}}]])
def test_beginnings_are_those_that_are_named_where_it_is_read(lore: Lore, content: Any) -> None:
    """With its session, which the worker knows, a prompt has the same prefix wherever it was read."""
    assert ROUTE is not None
    body = orjson.dumps({"model": "other", "messages": [{"role": "user", "content": content}]})
    understood = take_gist(body, ROUTE, lore, Owner(5, "acme")).understood
    assert understood is not None
    salt = salt_of(5, "acme", "m")
    assert with_session(understood.beginnings, salt, 9) == prefix_of(read_document(body, ROUTE).said, salt, 9)
    assert gist(lore, content).understood is not None


def test_it_changes_the_body_as_if_it_had_been_read_here(lore: Lore) -> None:
    """After its way through JSON, the places are right in the pieces that the body came in."""
    assert ROUTE is not None
    body = orjson.dumps({"messages": [{"role": "user", "content": "x" * 100}], "model": "m", "stream": True})
    pieces = [body[:50], body[50:]]
    there = from_row(orjson.loads(orjson.dumps(to_row(take_gist(body, ROUTE, lore)))), pieces)
    here = read_document(body, ROUTE)
    for name in ("m", "other name", None):
        for usage in (True, False):
            assert b"".join(there.body(name, with_usage=usage)) == b"".join(here.body(name, with_usage=usage))


SAID = st.builds(
    Content,
    st.sampled_from(("chat", "embeddings")),
    messages=st.just(()),
    tools=st.just(()),
    extras=st.just(()),
    token_ids=st.integers(0, 9),
    answers=st.integers(1, 9),
    inputs=st.integers(1, 9),
    max_tokens=st.none() | st.integers(0, 2**31),
    reasoning_effort=st.none() | st.text(max_size=5),
    affinity=st.text(max_size=9),
)
FINDINGS = st.lists(st.builds(Finding, st.text(max_size=5), st.integers(1, 9), st.integers(0, 9), st.integers(0, 3)))
NAMES = st.lists(st.integers(0, 2**64 - 1), max_size=3).map(tuple)
OFFSETS = st.integers(0, 2**31)
_KINDS = len(Extent._fields)
EXTENTS = st.none() | st.lists(st.floats(0, 1e9), min_size=_KINDS, max_size=_KINDS).map(lambda row: Extent(*row))
GISTS = st.builds(
    Document,
    st.just((b"pieces",)),
    st.text(max_size=9),
    st.booleans(),
    SAID,
    st.booleans(),
    st.builds(
        Understood,
        st.integers(0, 10**9),
        EXTENTS,
        st.builds(Scan, FINDINGS.map(tuple), st.sampled_from((None, "injection"))),
        st.none() | st.builds(Beginnings, NAMES, NAMES, OFFSETS, OFFSETS),
    ),
    st.builds(Places, st.tuples(OFFSETS, OFFSETS), st.builds(Edit, OFFSETS, OFFSETS, st.just(b"true"))),
)


@given(GISTS.filter(lambda each: each.places is not None))
def test_nothing_is_lost_on_the_way(document: Document) -> None:
    """A gist is the same after it has been JSON."""
    assert from_row(orjson.loads(orjson.dumps(to_row(document))), document.pieces) == document


@pytest.mark.parametrize("unit", [b"[],", b"{},", b"1,"])
def test_a_body_of_nothing_but_values_is_refused_unread(lore: Lore, unit: bytes) -> None:
    """It would take a gigabyte to find out that it says nothing."""
    assert ROUTE is not None
    times = (MOST_COMMAS if unit == b"1," else MOST_GROUPS) + 2
    with pytest.raises(RequestError) as caught:
        take_gist(b'{"model":"m","x":[' + unit * times + b"1]}", ROUTE, lore)
    assert caught.value.code == "body_too_costly"


def test_a_document_that_was_read_here_has_no_gist() -> None:
    """Its texts are not sent anywhere."""
    assert ROUTE is not None
    with pytest.raises(ValueError, match="no gist"):
        to_row(read_document(b'{"model": "m"}', ROUTE))
